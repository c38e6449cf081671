//! Messages without connection strings.
//!
//! What a setting was given is worth showing when it is wrong, and often it is a URI that stands under the wrong name.

/// Replaces what is not shown.
const HIDDEN: &str = "\"…\"";

/// Whether a text looks like a connection string or a part of one.
fn may_be_secret(text: &str) -> bool {
    text.contains("://") || text.contains('@')
}

/// A value in quotes, for a message.
pub(super) fn shown(value: &str) -> String {
    if may_be_secret(value) { HIDDEN.to_owned() } else { format!("{value:?}") }
}

/// A message of the TOML reader, which quotes keys and values as they are written, without those that may be secret.
pub(super) fn redact(message: &str) -> String {
    let mut safe = String::new();
    let mut rest = message;
    while let Some(at) = rest.find(['"', '`']) {
        let (before, quoted) = rest.split_at(at);
        safe.push_str(before);
        let end = quote_end(quoted);
        let (run, after) = quoted.split_at(end);
        safe.push_str(if may_be_secret(run) { HIDDEN } else { run });
        rest = after;
    }
    if may_be_secret(rest) {
        // Not what any message is known to do; better to say too little.
        return format!("{safe}…");
    }
    safe + rest
}

/// Options of connection strings whose values are secret, in lower case.
const SECRET_OPTIONS: [&str; 6] = [
    "tlscertificatekeyfilepassword",
    "authmechanismproperties",
    "proxypassword",
    "password",
    "sslpassword",
    "passfile",
];

/// Replaces a password.
pub const STARS: &str = "***";

/// A connection string with `***` for whatever in it may be secret; other text as it is.
pub fn without_password(uri: &str) -> String {
    let Some((scheme, rest)) = uri.split_once("://") else {
        return if may_be_secret(uri) || uri.to_lowercase().contains("password") {
            STARS.to_owned()
        } else {
            uri.to_owned()
        };
    };
    // All up to the last "@": a password may hold "@", "/" or "?" that should have been encoded.
    let (login, rest) = match rest.rsplit_once('@') {
        Some((login, rest)) => {
            let stars = login.split_once(':').map(|(user, _)| format!("{user}:{STARS}"));
            (stars.unwrap_or_else(|| login.to_owned()) + "@", rest)
        }
        None => (String::new(), rest),
    };
    let (place, options) = rest.split_once('?').map_or((rest, None), |(place, options)| (place, Some(options)));
    let (hosts, path) = place.split_once('/').map_or((place, None), |(hosts, path)| (hosts, Some(path)));
    let mut safe =
        format!("{scheme}://{login}{}", hosts.split(',').map(without_odd_port).collect::<Vec<_>>().join(","));
    if let Some(path) = path {
        safe.push('/');
        safe.push_str(path);
    }
    if let Some(options) = options {
        safe.push('?');
        safe.push_str(&options.split('&').map(without_secret_value).collect::<Vec<_>>().join("&"));
    }
    safe
}

/// What stands for a port and is none may be the password of a string that lacks its "@host".
fn without_odd_port(host: &str) -> String {
    match host.rsplit_once(':') {
        Some((name, port)) if !host.ends_with(']') && port.parse::<u16>().is_err() => format!("{name}:{STARS}"),
        _ => host.to_owned(),
    }
}

fn without_secret_value(option: &str) -> String {
    match option.split_once('=') {
        Some((name, _)) if SECRET_OPTIONS.contains(&name.to_lowercase().as_str()) => format!("{name}={STARS}"),
        _ => option.to_owned(),
    }
}

/// How far a text in quotes goes, the quotes included.
///
/// A key in backticks may hold backticks, which are not escaped: there it ends before what is known to follow a key.
fn quote_end(quoted: &str) -> usize {
    if quoted.starts_with('`') {
        let key = quoted.find("`, expected").or_else(|| quoted.rfind('`').filter(|end| *end > 0));
        return key.map_or(quoted.len(), |end| end + 1);
    }
    let mut escaped = false;
    for (at, byte) in quoted.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    quoted.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_strings_are_not_shown_and_all_else_is() {
        let cases = [
            (
                r#"invalid type: string "mongodb://u:s3@h/d", expected struct Mongo"#,
                r#"invalid type: string "…", expected struct Mongo"#,
            ),
            (
                r#"invalid type: string "u:s3\"s3@h", expected struct Mongo"#,
                r#"invalid type: string "…", expected struct Mongo"#,
            ),
            (
                "unknown field `mongodb://u:s`3@h`, expected `uri` or `database`",
                r#"unknown field "…", expected `uri` or `database`"#,
            ),
            ("unknown field `mongodb://u:s`3@h`, there are no fields", r#"unknown field "…", there are no fields"#),
            ("unknown field `url`, expected `uri` or `database`", "unknown field `url`, expected `uri` or `database`"),
            (r#"expected a size such as 256MiB, got "lots""#, r#"expected a size such as 256MiB, got "lots""#),
            (r#"unclosed "mongodb://u:s3@h"#, r#"unclosed "…""#),
            ("bare mongodb://u:s3@h", "…"),
        ];
        for (message, safe) in cases {
            assert_eq!(redact(message), safe);
        }
        let uris = [
            ("mongodb://u:s3:c@x@h:1,i/d?w=1&proxyPassword=s3", "mongodb://u:***@h:1,i/d?w=1&proxyPassword=***"),
            ("postgresql://u@h/d?password=s3", "postgresql://u@h/d?password=***"),
            ("mongodb://u:s3", "mongodb://u:***"),
            ("mongodb://u:s3/x?y@h", "mongodb://u:***@h"),
            ("mongodb://[::1]:27017/", "mongodb://[::1]:27017/"),
            ("host=h password=s3", "***"),
            ("u:s3@h", "***"),
            ("public", "public"),
        ];
        for (uri, safe) in uris {
            assert_eq!(without_password(uri), safe);
        }
        assert_eq!(shown("lots"), "\"lots\"");
        assert_eq!(shown("u:s3@h"), "\"…\"");
    }
}
