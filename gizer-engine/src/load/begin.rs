//! Starts a load from the beginning, or resumes an interrupted one.

use gizer_flatten::change::Positions;
use gizer_oplog::{Collection, can_be_read, plan_segments};
use gizer_pg::PgError;
use gizer_pg::load::{Earlier, Load, LoadRequest, LoadSource};
use gizer_pg::state::{Resumed, UnfinishedLoad};

use super::job::LoadJob;
use crate::failure::Failure;
use crate::notice::Notice;
use crate::wording::{command, thousands};

/// Segments per cursor, on average: sizes differ, and a cursor that is done takes another one.
pub(super) const SEGMENTS_A_CURSOR: usize = 4;

/// What must be unchanged to resume a load: the collection in each deployment, and the filter.
pub(crate) fn identity(collection: &Collection, filter: Option<&bson::Document>) -> String {
    let source = |source: &Option<gizer_oplog::SourceCollection>| match source {
        Some(source) => source.uuid.map_or_else(|| "unknown".to_owned(), hex::encode),
        None => "none".to_owned(),
    };
    let sources: Vec<String> = collection.sources.iter().map(source).collect();
    let filter = filter.map(|filter| format!("{:?}", filter.to_vec()));
    format!("{} {}", sources.join(","), filter.unwrap_or_default())
}

impl LoadJob<'_, '_> {
    fn starts_over(&self, name: &str, why: String) {
        self.env.notice(&Notice::StartsOver { collection: name.to_owned(), why });
    }

    fn cannot_resume(&self, name: &str, why: &str) {
        self.starts_over(name, format!("an interrupted load cannot be resumed: {why}"));
    }
}

/// Starts or resumes the load; returns it with what is left to read.
pub(super) async fn begin<'l>(
    job: &'l LoadJob<'_, '_>,
    request: LoadRequest<'l>,
    collection: &Collection,
) -> Result<(Load<'l>, Option<Resumed>), Failure> {
    let name = &collection.name;
    match Load::earlier(job.session, &request).await? {
        Earlier::Unfinished(unfinished) if job.options.restart => {
            let documents = thousands(unfinished.documents);
            let why = format!("--restart discards {documents} documents of an interrupted load");
            job.starts_over(name, why);
        }
        Earlier::Unfinished(unfinished) => {
            if let Some((load, resumed)) = resume(job, &request, &unfinished, name).await? {
                return Ok((load, Some(resumed)));
            }
        }
        Earlier::Useless { why } => {
            job.cannot_resume(name, why);
        }
        Earlier::None => {}
    }
    let load =
        Load::begin(job.session, request).await.map_err(|error| refused(error, name, job.options.prefix.as_deref()))?;
    Ok((load, None))
}

/// What a load from the beginning has to read.
pub(super) async fn plan_from_start(
    job: &LoadJob<'_, '_>,
    load: &Load<'_>,
    collection: &Collection,
) -> Result<Resumed, Failure> {
    let count = job.env.settings.load_workers * SEGMENTS_A_CURSOR;
    let segments = plan_segments(job.cluster, collection, count).await?;
    load.plan(&segments).await?;
    Ok(Resumed { segments, ..Resumed::default() })
}

/// An oplog without a position in the load: documents moved to its shard would be missed.
fn added_shard<'n>(before: &Positions, now: &'n Positions) -> Option<&'n str> {
    now.keys().find(|shard| !before.contains_key(*shard)).map(String::as_str)
}

/// Resumes the load; `None` if that is impossible.
async fn resume<'l>(
    job: &'l LoadJob<'_, '_>,
    request: &LoadRequest<'l>,
    unfinished: &UnfinishedLoad,
    name: &str,
) -> Result<Option<(Load<'l>, Resumed)>, Failure> {
    let mut request = request.clone();
    if let LoadSource::Followable { captured } = &mut request.source {
        // Changes since that load's start are in the oplog after its first position.
        let Some(before) = &unfinished.captured else { return Ok(None) };
        if let Some(added) = added_shard(before, captured) {
            job.cannot_resume(name, &format!("it has no position in the oplog of {added}"));
            return Ok(None);
        }
        if !job.reaches(before).await? {
            job.cannot_resume(name, "neither the oplog nor its spool reaches back to its start");
            return Ok(None);
        }
        captured.clone_from(before);
    }
    match Load::resume(job.session, request, unfinished).await {
        Ok((load, resumed)) if can_be_read(&resumed.segments) => {
            job.env.notice(&Notice::Resumes { collection: name.to_owned(), documents: unfinished.documents });
            Ok(Some((load, resumed)))
        }
        Ok((load, _)) => {
            job.cannot_resume(name, "it stopped at an _id that is not UTF-8");
            load.abandon("it cannot resume at an _id that is not UTF-8", false).await?;
            Ok(None)
        }
        Err(error @ PgError::UnreadableState { .. }) => {
            job.cannot_resume(name, &error.to_string());
            Ok(None)
        }
        Err(error) => Err(refused(error, name, job.options.prefix.as_deref())),
    }
}

/// Why a load cannot start. If a prefixed name is taken, the prefix can change; tables that cannot be
/// replaced can be resynced.
pub(super) fn refused(error: PgError, collection: &str, prefix: Option<&str>) -> Failure {
    let taken = matches!(error, PgError::NameTaken { .. } | PgError::ForeignTable { .. });
    let cannot_be_replaced = matches!(error, PgError::Dependents { .. });
    let failure = Failure::from(error);
    if taken && prefix.is_some() {
        return failure.remedy("choose another prefix");
    }
    match failure.remedy.clone().filter(|_| cannot_be_replaced && prefix.is_none()) {
        Some(own) => failure.remedy(format!(
            "run `{}`, which keeps it and makes the tables equal in place (until it is done, readers see rows of before \
             and after next to each other); or {own}",
            command("resync", [collection], &[])
        )),
        None => failure,
    }
}

#[cfg(test)]
mod tests {
    use gizer_flatten::change::SourcePosition;

    use super::*;

    #[test]
    fn a_shard_that_came_after_a_load_is_found() {
        let of =
            |shards: &[&str]| shards.iter().map(|shard| ((*shard).to_owned(), SourcePosition::default())).collect();
        let (one, two): (Positions, Positions) = (of(&["a"]), of(&["a", "b"]));
        assert_eq!(added_shard(&one, &two), Some("b"));
        assert_eq!(added_shard(&two, &two), None);
        // One that is gone is not reached any more: the capture says so.
        assert_eq!(added_shard(&two, &one), None);
    }
}
