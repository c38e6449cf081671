//! Connection strings from the parts that classic sections give.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What RFC 3986 calls reserved, and everything else that is not unreserved.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// How somebody logs in to MongoDB, and what else its connection string holds.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) user: String,
    pub(super) password: String,
    /// Where the user is known.
    pub(super) database: String,
    /// As in a connection string: `a=b&c=d`.
    pub(super) options: String,
    pub(super) tls: bool,
}

impl Login {
    fn has_option(&self, name: &str) -> bool {
        let mut names = self.options.split('&').filter_map(|option| option.split_once('=')).map(|(name, _)| name);
        names.any(|other| other.eq_ignore_ascii_case(name))
    }
}

/// The connection string of a server, or of the members of a replica set.
///
/// One host is connected to directly, as the classic tool did, unless the options name a replica set: what the members call
/// each other need not be known where gizer runs.
pub(super) fn mongodb(hosts: &[String], login: &Login) -> String {
    let mut uri = "mongodb://".to_owned();
    // The classic tool logged in only where it had both.
    let logs_in = !login.user.is_empty() && (!login.password.is_empty() || login.has_option("authMechanism"));
    if logs_in {
        uri.push_str(&credentials(&login.user, &login.password));
    }
    uri.push_str(&hosts.join(","));
    uri.push('/');
    if logs_in {
        uri.push_str(&encoded(&login.database));
    }
    let mut options: Vec<&str> = login.options.split('&').filter(|option| !option.is_empty()).collect();
    if login.tls && !login.has_option("tls") && !login.has_option("ssl") {
        options.push("tls=true");
    }
    let one = hosts.len() == 1;
    if one && !["directConnection", "replicaSet", "loadBalanced"].iter().any(|name| login.has_option(name)) {
        options.push("directConnection=true");
    }
    if !options.is_empty() {
        uri.push('?');
        uri.push_str(&options.join("&"));
    }
    uri
}

/// The connection string of a PostgreSQL database.
pub(super) fn postgresql(host: &str, user: &str, password: &str, database: &str) -> String {
    let credentials = if user.is_empty() { String::new() } else { credentials(user, password) };
    format!("postgresql://{credentials}{host}/{}", encoded(database))
}

fn credentials(user: &str, password: &str) -> String {
    match password {
        "" => format!("{}@", encoded(user)),
        password => format!("{}:{}@", encoded(user), encoded(password)),
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// `host:port`; the folder of a socket is encoded, an IPv6 address is in brackets. `None` if it is none of these.
pub(super) fn place(host: &str, port: Option<u16>) -> Option<String> {
    let host = if host.starts_with('/') {
        encoded(host)
    } else if host.parse::<std::net::Ipv6Addr>().is_ok() {
        format!("[{host}]")
    } else if host.is_empty() || host.contains(|c: char| "/@?#%,[] ".contains(c) || c.is_whitespace()) {
        return None;
    } else if let Some((name, own_port)) = host.split_once(':') {
        let own_port: u16 = own_port.parse().ok()?;
        return (!name.is_empty()).then(|| format!("{name}:{own_port}"));
    } else {
        host.to_owned()
    };
    Some(match port {
        Some(port) => format!("{host}:{port}"),
        None => host,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_become_connection_strings() {
        let login = Login {
            user: "a@b".to_owned(),
            password: "p:/?#[]%ü &".to_owned(),
            database: "shop".to_owned(),
            options: "w=1".to_owned(),
            tls: true,
        };
        let anonymous = Login { user: String::new(), tls: false, options: String::new(), ..login.clone() };
        let hosts = |hosts: &[&str]| hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>();
        let secret = "a%40b:p%3A%2F%3F%23%5B%5D%25%C3%BC%20%26";
        assert_eq!(
            mongodb(&hosts(&["h:1"]), &login),
            format!("mongodb://{secret}@h:1/shop?w=1&tls=true&directConnection=true")
        );
        assert_eq!(mongodb(&hosts(&["h", "i"]), &anonymous), "mongodb://h,i/");
        let of_set = Login { options: "replicaSet=rs0".to_owned(), ..anonymous.clone() };
        assert_eq!(mongodb(&hosts(&["h"]), &of_set), "mongodb://h/?replicaSet=rs0");
        assert_eq!(postgresql("h:5", &login.user, &login.password, "a b"), format!("postgresql://{secret}@h:5/a%20b"));
        assert_eq!(postgresql("h", "u", "", "d"), "postgresql://u@h/d");
    }

    #[test]
    fn hosts_are_names_addresses_or_sockets() {
        let cases = [
            ("h", Some(1), Some("h:1")),
            ("h", None, Some("h")),
            ("::1", Some(1), Some("[::1]:1")),
            ("h:7", Some(1), Some("h:7")),
            ("/run/pg", Some(1), Some("%2Frun%2Fpg:1")),
            ("mongodb://h", Some(1), None),
            ("u@h", None, None),
            ("h:x", None, None),
            ("", Some(1), None),
        ];
        for (host, port, expected) in cases {
            assert_eq!(place(host, port).as_deref(), expected, "{host}");
        }
    }
}
