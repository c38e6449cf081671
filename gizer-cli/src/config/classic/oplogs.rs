//! The oplog sections: `[mongo-oplog]`, `[mongo-oplog-rs1]` or `[mongo-oplog-shard1-rs1]`, and so on.

use super::ini::Section;
use super::uris::{self, Login};
use super::{ClassicReader, OPLOG, is_oplog};
use crate::config::file::OplogSection;
use crate::config::origin::SettingOrigin;

/// An oplog with the sections of its members, in the order of the file.
struct OplogSections<'i> {
    name: String,
    members: Vec<&'i Section>,
}

/// Reads all oplog sections into `[[oplog]]` entries, which keep the classic names: by these the positions are ordered.
///
/// # Errors
/// What is wrong, with its line.
pub(super) fn read(reader: &mut ClassicReader<'_>) -> Result<(), String> {
    let sections = reader.ini.named_sections().filter(|section| is_oplog(&section.name));
    let mut sources: Vec<OplogSections<'_>> = Vec::new();
    let mut depth: Option<(usize, &str)> = None;
    for section in sections {
        let parts: Vec<&str> = section.name[OPLOG.len()..].split('-').skip(1).collect();
        let name = match parts.as_slice() {
            [] | [_] => OPLOG.to_owned(),
            [shard, _] => format!("{OPLOG}-{shard}"),
            _ => return Err(expected_form(section)),
        };
        match depth {
            Some((first, of)) if first != parts.len() => {
                let line = section.line;
                return Err(format!(
                    "line {line}: [{}] does not go with [{of}]: expected one [mongo-oplog], or the members of one replica \
                     set ([mongo-oplog-rs1], …), or those of each shard ([mongo-oplog-shard1-rs1], …)",
                    section.name
                ));
            }
            _ => depth = Some((parts.len(), &section.name)),
        }
        match sources.iter_mut().find(|source| source.name == name) {
            Some(source) => source.members.push(section),
            None => sources.push(OplogSections { name, members: vec![section] }),
        }
    }
    let mut lines = Vec::new();
    for source in &sources {
        let uri = uri(reader, source)?;
        lines.extend(source.members.iter().map(|member| member.line));
        reader.file.oplog.push(OplogSection { name: source.name.clone(), uri });
    }
    if !sources.is_empty() {
        let names: Vec<String> =
            sources.iter().flat_map(|source| &source.members).map(|member| format!("[{}]", member.name)).collect();
        let of = Some(names.join(", "));
        let origin = SettingOrigin::File { path: reader.path.to_owned(), line: lines.into_iter().min(), of };
        reader.origins.set("oplog-uri", origin);
    }
    Ok(())
}

fn expected_form(section: &Section) -> String {
    format!("line {}: [{}]: expected a name such as mongo-oplog-shard1-rs1", section.line, section.name)
}

fn uri(reader: &ClassicReader<'_>, source: &OplogSections<'_>) -> Result<String, String> {
    let mut hosts = Vec::new();
    let mut login: Option<(Login, &Section)> = None;
    for member in &source.members {
        let (own_hosts, own_login) = reader.member(member)?;
        hosts.extend(own_hosts);
        match &login {
            None => login = Some((own_login, member)),
            Some((first, of)) if *first != own_login => {
                return Err(format!(
                    "line {}: [{}] and [{}] are members of one replica set: expected the same -user, -pass, -dbname, \
                     -params and -ssl",
                    member.line, of.name, member.name
                ));
            }
            Some(_) => {}
        }
    }
    let Some((mut login, _)) = login else { return Ok(String::new()) };
    // The oplog is in `local`, where nobody can log in.
    if login.database.is_empty() || login.database == "local" {
        login.database = "admin".to_owned();
    }
    Ok(uris::mongodb(&hosts, &login))
}
