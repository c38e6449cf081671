//! The configuration with the origin of everything in it.

use std::path::{Path, PathBuf};

use super::classic::{self, ClassicSections, Ini};
use super::file::{self, File};
use super::origin::{self, SettingOrigin, SettingOrigins};
use super::{CACHE_SECTION_VARIABLE, Config, DEFAULT_FILE, POSTGRES_SECTION_VARIABLE, SETTINGS, Setting};
use crate::exit::Failure;

/// What is in force, and where it came from.
#[derive(Debug)]
pub struct Effective {
    /// What is in force.
    pub config: Config,
    /// Where each setting came from.
    pub origins: SettingOrigins,
    /// The file that was read, if there is one.
    pub path: Option<PathBuf>,
    /// The file as it is written, if it is one of the classic tool.
    pub classic: Option<Ini>,
    /// What gizer has no need of in a classic file.
    pub ignored: Vec<String>,
    /// Which settings the file has.
    pub(super) file: File,
}

impl Effective {
    /// Reads the configuration, as [`Config::read`]. `sections` are those of the command line, for a classic file.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn read(
        named: Option<&Path>,
        sections: &ClassicSections,
        flags: impl Fn(&Setting) -> Vec<String>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Effective, Failure> {
        let of_environment = |variable| environment(variable).filter(|name| !name.is_empty());
        let all_sections = ClassicSections {
            postgres: sections.postgres.clone().or_else(|| of_environment(POSTGRES_SECTION_VARIABLE)),
            cache: sections.cache.clone().or_else(|| of_environment(CACHE_SECTION_VARIABLE)),
        };
        let mut read = read_file(named, &all_sections)?;
        if read.classic.is_none() && *sections != ClassicSections::default() {
            return Err(Failure::usage(
                "--psql-section and --cache-section choose from a classic INI file, and none is read",
            )
            .remedy("name the INI file by --config, or leave them out"));
        }
        let mut file = read.file.clone();
        for setting in SETTINGS {
            let variable = setting.variable();
            if let Some(value) = environment(&variable) {
                let values: Vec<String> =
                    if setting.list { value.split_whitespace().map(str::to_owned).collect() } else { vec![value] };
                apply(setting, &mut file, &values, &variable)?;
                read.origins.set(&setting.flag(), SettingOrigin::Variable(variable));
            }
        }
        for setting in SETTINGS {
            let values = flags(setting);
            if !values.is_empty() {
                let flag = format!("--{}", setting.flag());
                apply(setting, &mut file, &values, &flag)?;
                read.origins.set(&setting.flag(), SettingOrigin::Flag(flag));
            }
        }
        if file.cache.as_ref().is_some_and(|cache| cache.uri.is_none()) {
            return Err(
                Failure::usage("[cache] has settings, and no uri").remedy("set cache.uri, or leave [cache] out")
            );
        }
        let folder = read.path.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
        let mut config = Config::from_file(file, folder);
        config.take_passwords(environment, &read.origins);
        Ok(Effective { config, ..read })
    }
}

fn apply(setting: &Setting, file: &mut File, values: &[String], origin: &str) -> Result<(), Failure> {
    // The value may hold a password: what is wrong with it is said without showing it.
    (setting.set)(file, values).map_err(|problem| Failure::usage(format!("{origin}: {problem}")))
}

/// What the file alone says. Relative paths in it start from its folder; in a classic file, as ever, from the working directory.
fn read_file(named: Option<&Path>, sections: &ClassicSections) -> Result<Effective, Failure> {
    let path = named.unwrap_or(Path::new(DEFAULT_FILE));
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(of_file(File::default(), SettingOrigins::default(), None));
        }
        Err(error) => return Err(Failure::usage(format!("cannot read the config file {}: {error}", path.display()))),
    };
    let wrong = |problem| Failure::usage(format!("{}: {problem}", path.display()));
    if classic::is_classic(path, &text) {
        let folder = std::env::current_dir().unwrap_or_default();
        let reading = classic::read(&text, path, &folder, sections).map_err(wrong)?;
        let ignored = reading.ignored;
        let read = of_file(reading.file, reading.origins, Some(path));
        return Ok(Effective { classic: Some(reading.ini), ignored, ..read });
    }
    let file = file::parse(&text).map_err(wrong)?;
    Ok(of_file(file, origin::in_toml(&text, path), Some(path)))
}

fn of_file(file: File, origins: SettingOrigins, path: Option<&Path>) -> Effective {
    Effective {
        config: Config::from_file(File::default(), Path::new("")),
        origins,
        path: path.map(Path::to_path_buf),
        classic: None,
        ignored: Vec::new(),
        file,
    }
}
