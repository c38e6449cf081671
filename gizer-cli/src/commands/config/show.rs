//! `gizer config show` and `get`: what is in force, and where it came from.

use serde_json::{Value, json};

use crate::args::{ConfigGetArgs, Format};
use crate::config::{
    Effective, HIDDEN_PASSWORD, SETTINGS, Setting, SettingOrigin, nearest_of, values, without_password,
};
use crate::exit::{ExitCode, Failure};
use crate::ui::report;

/// Prints every setting with its value and its origin, without passwords.
pub fn show(effective: &Effective, format: Format) -> ExitCode {
    match format {
        Format::Text => {
            let rows = SETTINGS.iter().flat_map(|setting| {
                let mut safe = safe_values(effective, setting).into_iter();
                let value = safe.next().unwrap_or_else(|| "not set".to_owned());
                let name = format!("{}.{}", setting.section, setting.key);
                let first = vec![name, value, origin(effective, setting).to_string()];
                std::iter::once(first).chain(safe.map(|value| vec![String::new(), value, String::new()]))
            });
            let passwords =
                effective.config.passwords_of_environment().into_iter().map(|(section, variable)| {
                    vec![format!("{section}.password"), HIDDEN_PASSWORD.to_owned(), variable]
                });
            report::text(&report::table(&["setting", "value", "from"], &[], rows.chain(passwords)));
        }
        Format::Json => {
            let setting = |setting: &Setting| {
                let safe = safe_values(effective, setting);
                let value = if setting.list { json!(safe) } else { json!(safe.first()) };
                let from = origin(effective, setting).json();
                json!({"section": setting.section, "key": setting.key, "value": value, "from": from})
            };
            let file = effective.path.as_ref().map(|path| path.display().to_string());
            let passwords = effective.config.passwords_of_environment().into_iter().map(|(section, variable)| {
                let from = SettingOrigin::Variable(variable).json();
                json!({"section": section, "key": "password", "value": HIDDEN_PASSWORD, "from": from})
            });
            let settings: Vec<Value> = SETTINGS.iter().map(setting).chain(passwords).collect();
            report::json(&json!({"file": file, "classic": effective.classic.is_some(), "settings": settings}));
        }
    }
    ExitCode::Done
}

/// Prints one value: of a setting, or as it is in a classic file.
///
/// # Errors
/// [`Failure`] if there is no such name, it is not set, or it is secret and was not asked for as such.
pub fn get(effective: &Effective, args: &ConfigGetArgs, format: Format) -> Result<ExitCode, Failure> {
    let (section, key) = (args.section.as_str(), args.key.as_str());
    let written = key.replace('-', "_");
    let setting = SETTINGS.iter().find(|setting| setting.section == section && setting.key == written);
    let classic = effective.classic.as_ref().and_then(|ini| ini.value(section, key));
    let (found, secret) = match (setting, classic) {
        (Some(setting), _) => {
            let found = values(&effective.config, setting);
            let secret = found.iter().any(|value| *value != safe(setting, value));
            (found, secret)
        }
        (None, Some(value)) => (vec![value.to_owned()], is_secret(key, value)),
        (None, None) => return Err(no_such(effective, section, key)),
    };
    if found.is_empty() {
        return Err(Failure::failed(format!("{section}.{key} is not set")));
    }
    if secret && !args.show_secret {
        return Err(Failure::usage(format!("{section}.{key} holds a secret, and --show-secret is not given"))
            .remedy("give --show-secret to print it, or see `gizer config show`"));
    }
    match format {
        Format::Text => report::text(&(found.join("\n") + "\n")),
        Format::Json => {
            let list = setting.is_some_and(|setting| setting.list);
            let value = if list { json!(found) } else { json!(found.first()) };
            let from = setting.map(|setting| origin(effective, setting).json());
            report::json(&json!({"section": section, "key": key, "value": value, "from": from}));
        }
    }
    Ok(ExitCode::Done)
}

fn origin(effective: &Effective, setting: &Setting) -> SettingOrigin {
    effective.origins.of(&setting.flag())
}

fn safe_values(effective: &Effective, setting: &Setting) -> Vec<String> {
    values(&effective.config, setting).iter().map(|value| safe(setting, value)).collect()
}

/// A value without passwords.
fn safe(setting: &Setting, value: &str) -> String {
    match (setting.section, value.split_once('=')) {
        ("oplog", Some((name, uri))) => format!("{name}={}", without_password(uri)),
        _ if setting.key == "uri" => without_password(value),
        // A connection string easily stands under the wrong name.
        _ if value.contains("://") => without_password(value),
        _ => value.to_owned(),
    }
}

/// Whether a value of a classic file is secret: passwords, and options that hold one.
fn is_secret(key: &str, value: &str) -> bool {
    let key = key.to_lowercase();
    let options = format!("mongodb://h/?{value}");
    (key.contains("pass") && !value.is_empty())
        || value.contains("://")
        || (key.ends_with("-params") && without_password(&options) != options)
}

fn no_such(effective: &Effective, section: &str, key: &str) -> Failure {
    let classic = effective.classic.iter().flat_map(|ini| ini.names());
    let settings = SETTINGS.iter().map(|setting| (setting.section, setting.key));
    let known: Vec<String> = settings.chain(classic).map(|(section, key)| format!("{section} {key}")).collect();
    let failure = Failure::usage(format!("there is no setting {section} {key}"));
    match nearest_of(&format!("{section} {key}"), &known) {
        Some(near) => failure.remedy(format!("did you mean `gizer config get {near}`?")),
        None => failure.remedy("see `gizer config show` for all settings"),
    }
}
