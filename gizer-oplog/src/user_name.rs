//! User names with a comma or an equals sign.
//!
//! SCRAM escapes them as `=2C` and `=3D` (RFC 5802, 5.1). The driver does not, so it gets the
//! escaped name. With SCRAM-SHA-1 that fails: the password is hashed together with the name
//! (mongodb 3.9, `client/auth/scram.rs`).

use mongodb::options::{AuthMechanism, Credential};

use crate::error::MongoError;

/// Escapes the name where needed.
///
/// # Errors
/// [`MongoError::MalformedUri`] with a mechanism that cannot be escaped for.
pub(crate) fn escape(credential: &mut Credential) -> Result<(), MongoError> {
    let Some(name) = credential.username.as_ref().filter(|name| name.contains([',', '='])) else { return Ok(()) };
    match credential.mechanism {
        None | Some(AuthMechanism::ScramSha256) => {
            credential.username = Some(name.replace('=', "=3D").replace(',', "=2C"));
            // Negotiating the mechanism would look up the escaped name.
            credential.mechanism = Some(AuthMechanism::ScramSha256);
            Ok(())
        }
        Some(AuthMechanism::ScramSha1) => {
            let reason = "authMechanism=SCRAM-SHA-1 cannot be used with a user whose name holds a comma or an equals sign, which \
                          the driver does not escape for it: expected SCRAM-SHA-256";
            Err(MongoError::MalformedUri { reason: reason.to_owned(), in_options: true })
        }
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(name: &str, mechanism: Option<AuthMechanism>) -> Option<String> {
        let mut credential = Credential::builder().username(name.to_owned()).mechanism(mechanism).build();
        escape(&mut credential).ok()?;
        credential.username
    }

    #[test]
    fn commas_and_equals_signs_are_escaped_where_that_helps() {
        assert_eq!(escaped("anna", Some(AuthMechanism::ScramSha1)).as_deref(), Some("anna"));
        assert_eq!(escaped("a,b", None).as_deref(), Some("a=2Cb"));
        assert_eq!(escaped("=,", Some(AuthMechanism::ScramSha256)).as_deref(), Some("=3D=2C"));
        assert_eq!(escaped("a=2C", None).as_deref(), Some("a=3D2C"));
        assert_eq!(escaped("CN=anna,O=shop", Some(AuthMechanism::MongoDbX509)).as_deref(), Some("CN=anna,O=shop"));
        assert_eq!(escaped("a,b", Some(AuthMechanism::ScramSha1)), None);
    }
}
