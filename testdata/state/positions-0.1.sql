-- Gives the positions of all state tables the form in which gizer 0.1 wrote them:
--   {"rs0": {"seconds": 1454960732, "increment": 1, "term": 7}}
-- As its tables stood in a database, but for key order, which jsonb does not keep.
CREATE FUNCTION pg_temp.first_version(now jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT coalesce(jsonb_object_agg(shard, jsonb_build_object(
        'seconds', split_part(at, '.', 1)::int8,
        'increment', split_part(split_part(at, '.', 2), ':', 1)::int8,
        'term', ('x' || split_part(at, ':', 2))::bit(64)::int8 # (-9223372036854775808))), '{}')
    FROM jsonb_each_text(now) AS each (shard, at)
    WHERE now IS NOT NULL
$$;
UPDATE gizer_stream SET
    position = pg_temp.first_version(position),
    exact_at = CASE WHEN exact_at IS NOT NULL THEN pg_temp.first_version(exact_at) END,
    verified = CASE WHEN verified IS NOT NULL THEN pg_temp.first_version(verified) END;
UPDATE gizer_collection SET
    captured = CASE WHEN captured IS NOT NULL THEN pg_temp.first_version(captured) END,
    exact_at = CASE WHEN exact_at IS NOT NULL THEN pg_temp.first_version(exact_at) END,
    load_captured = CASE WHEN load_captured IS NOT NULL THEN pg_temp.first_version(load_captured) END;
