//! Connection string options that gizer ignores, and finding the invalid one.

use mongodb::options::ConnectionString;

/// Options without effect on what is read, in lower case: compression, read timeouts (which would
/// cut off the tail of an idle oplog), UUID representation, and switches of older drivers.
const HARMLESS: [&str; 9] = [
    "compressors",
    "zlibcompressionlevel",
    "sockettimeoutms",
    "uuidrepresentation",
    "waitqueuemultiple",
    "sockettimeout",
    "usenewurlparser",
    "useunifiedtopology",
    "autoreconnect",
];

/// A connection string for the driver, and the names of the removed options.
pub(crate) fn without_harmless(uri: &str) -> (String, Vec<String>) {
    let Some((place, options)) = uri.rsplit_once('?') else { return (uri.to_owned(), Vec::new()) };
    let (mut kept, mut ignored) = (Vec::new(), Vec::new());
    let is_direct = |option: &str| option.to_lowercase().starts_with("directconnection=");
    for option in options.split('&') {
        let Some((name, value)) = option.split_once('=') else {
            kept.push(option);
            continue;
        };
        match name.to_lowercase().as_str() {
            // The name until 4.4.
            "connect" if value.eq_ignore_ascii_case("direct") => {
                if !options.split('&').any(is_direct) {
                    kept.push("directConnection=true");
                }
            }
            "connect" if ["automatic", "replicaset"].contains(&value.to_lowercase().as_str()) => {
                ignored.push(name.to_owned());
            }
            lower if HARMLESS.contains(&lower) => ignored.push(name.to_owned()),
            _ => kept.push(option),
        }
    }
    let separator = if kept.is_empty() { "" } else { "?" };
    (format!("{place}{separator}{}", kept.join("&")), ignored)
}

/// Whether the part before the options is well-formed, so that the options are at fault.
pub(crate) fn are_at_fault(uri: &str) -> bool {
    uri.rsplit_once('?').is_some_and(|(place, _)| ConnectionString::parse(place).is_ok())
}

/// The name of the first option that makes a connection string invalid.
pub(crate) fn name_at_fault(uri: &str) -> Option<&str> {
    let (place, options) = uri.rsplit_once('?').filter(|_| are_at_fault(uri))?;
    let mut options = options.split('&');
    let option = options.find(|option| ConnectionString::parse(format!("{place}?{option}")).is_err())?;
    option.split('=').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_at_fault_is_named() {
        let cases = [
            ("mongodb://db/?w=1&readPreference=sometimes", Some("readPreference")),
            ("mongodb://db/?w=1&ssl", Some("ssl")),
            ("mongodb://db/?w=1", None),
            ("mongodb://db:x/?readPreference=sometimes", None),
        ];
        for (uri, name) in cases {
            assert_eq!(name_at_fault(uri), name, "{uri}");
        }
    }

    #[test]
    fn what_gizer_has_no_use_for_is_left_out() {
        let cases = [
            ("mongodb://db", "mongodb://db", vec![]),
            ("mongodb://db/?replicaSet=rs0", "mongodb://db/?replicaSet=rs0", vec![]),
            ("mongodb://db/?compressors=zstd,zlib&w=1", "mongodb://db/?w=1", vec!["compressors"]),
            ("mongodb://db/?socketTimeoutMS=5", "mongodb://db/", vec!["socketTimeoutMS"]),
            (
                "mongodb://db/?uuidRepresentation=standard&tls=true",
                "mongodb://db/?tls=true",
                vec!["uuidRepresentation"],
            ),
            ("mongodb://db/?connect=direct", "mongodb://db/?directConnection=true", vec![]),
            ("mongodb://db/?connect=direct&directConnection=false", "mongodb://db/?directConnection=false", vec![]),
            ("mongodb://db/?connect=replicaSet", "mongodb://db/", vec!["connect"]),
            ("mongodb://db/?connect=odd", "mongodb://db/?connect=odd", vec![]),
        ];
        for (uri, kept, ignored) in cases {
            let ignored = ignored.into_iter().map(str::to_owned).collect::<Vec<_>>();
            assert_eq!(without_harmless(uri), (kept.to_owned(), ignored), "{uri}");
        }
    }
}
