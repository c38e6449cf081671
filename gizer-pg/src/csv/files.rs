//! Writing the files of a collection's tables.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::manifest::{ExtractedFile, ExtractedTable};
use super::rejected::RejectWriter;
use crate::copy::EncodedUnit;
use crate::error::PgError;

/// Bytes from which on a file gets no more rows.
pub const FILE_BYTES: u64 = 100 << 20;

/// The files of one collection under way. Any number of threads may write; each table has one writer at a time.
#[derive(Debug)]
pub struct TextFiles {
    tables: Vec<Mutex<TableFiles>>,
    rejects: Mutex<RejectWriter>,
}

impl TextFiles {
    pub(super) fn new(tables: Vec<TableFiles>, rejects: RejectWriter) -> TextFiles {
        TextFiles { tables: tables.into_iter().map(Mutex::new).collect(), rejects: Mutex::new(rejects) }
    }

    /// Appends a unit's rows to their tables' files, and its rejected documents to theirs. Blocks.
    ///
    /// # Errors
    /// [`PgError::File`]; what of the unit is written then is not known.
    pub fn write(&self, unit: &EncodedUnit) -> Result<(), PgError> {
        for data in &unit.tables {
            let mut table = self.tables[data.table.0].lock().unwrap_or_else(PoisonError::into_inner);
            table.write(&data.bytes, data.rows)?;
        }
        if unit.rejects.is_empty() {
            return Ok(());
        }
        self.rejects.lock().unwrap_or_else(PoisonError::into_inner).write(&unit.rejects)
    }

    /// Makes everything durable; says what there is, table by table. Blocks.
    ///
    /// # Errors
    /// [`PgError::File`].
    pub fn finish(&self) -> Result<Vec<ExtractedTable>, PgError> {
        self.rejects.lock().unwrap_or_else(PoisonError::into_inner).finish()?;
        self.tables.iter().map(|table| table.lock().unwrap_or_else(PoisonError::into_inner).finish()).collect()
    }
}

/// The files of one table.
#[derive(Debug)]
pub(super) struct TableFiles {
    table: String,
    folder: PathBuf,
    file_bytes: u64,
    open: Option<(PathBuf, File)>,
    files: Vec<ExtractedFile>,
}

impl TableFiles {
    /// Files in a folder that is there, and empty.
    pub(super) fn new(table: &str, folder: PathBuf, file_bytes: u64) -> TableFiles {
        TableFiles { table: table.to_owned(), folder, file_bytes, open: None, files: Vec::new() }
    }

    /// Appends whole lines.
    fn write(&mut self, mut lines: &[u8], mut rows: u64) -> Result<(), PgError> {
        while !lines.is_empty() {
            let written = self.files.last().map_or(self.file_bytes, |file| file.bytes);
            if self.open.is_none() || written >= self.file_bytes {
                self.next_file()?;
                continue;
            }
            let room = usize::try_from(self.file_bytes - written).unwrap_or(usize::MAX);
            let end = line_end(lines, room);
            let (now, later) = lines.split_at(end);
            let count = if later.is_empty() { rows } else { line_count(now) };
            if let Some((path, file)) = &mut self.open {
                file.write_all(now).map_err(PgError::file("write", path))?;
            }
            if let Some(file) = self.files.last_mut() {
                file.bytes += now.len() as u64;
                file.rows += count;
            }
            (lines, rows) = (later, rows - count);
        }
        Ok(())
    }

    fn next_file(&mut self) -> Result<(), PgError> {
        self.close()?;
        let name = format!("{:05}", self.files.len());
        let path = self.folder.join(&name);
        let file = File::create_new(&path).map_err(PgError::file("create", &path))?;
        self.files.push(ExtractedFile { name, rows: 0, bytes: 0 });
        self.open = Some((path, file));
        Ok(())
    }

    fn close(&mut self) -> Result<(), PgError> {
        let Some((path, file)) = self.open.take() else { return Ok(()) };
        file.sync_all().map_err(PgError::file("write", &path))
    }

    fn finish(&mut self) -> Result<ExtractedTable, PgError> {
        self.close()?;
        sync_folder(&self.folder).map_err(PgError::file("write", &self.folder))?;
        Ok(ExtractedTable { name: self.table.clone(), files: std::mem::take(&mut self.files) })
    }
}

/// Makes durable which files are in a folder.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Where the line ends that holds the byte before `room`, or the last line.
fn line_end(lines: &[u8], room: usize) -> usize {
    if room >= lines.len() {
        return lines.len();
    }
    // CR LF stands only at the end of a line: in values each of them has a backslash before it.
    let from = room.saturating_sub(2);
    lines[from..].windows(2).position(|two| two == b"\r\n").map_or(lines.len(), |at| from + at + 2)
}

fn line_count(lines: &[u8]) -> u64 {
    lines.windows(2).filter(|two| *two == b"\r\n").count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_roll_over_at_the_limit_and_no_row_is_split() {
        let folder = tempfile::tempdir().unwrap();
        let mut table = TableFiles::new("t", folder.path().to_owned(), 10);
        // Rows of 4 bytes, of 14, and one with CR and LF in a value.
        table.write(b"aa\r\nbb\r\ncc\r\ndd\r\n", 4).unwrap();
        table.write(b"0123456789ab\r\n", 1).unwrap();
        table.write(b"x\\\r\\\ny\r\nz\r\nzz\r\n", 3).unwrap();
        let made = table.finish().unwrap();
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        let expected = [
            ("00000", "aa\r\nbb\r\ncc\r\n", 3),
            ("00001", "dd\r\n0123456789ab\r\n", 2),
            ("00002", "x\\\r\\\ny\r\nz\r\n", 2),
            ("00003", "zz\r\n", 1),
        ];
        assert_eq!(made.files.len(), expected.len(), "{made:?}");
        for (file, (name, content, rows)) in made.files.iter().zip(expected) {
            assert_eq!((file.name.as_str(), read(name).as_str(), file.rows), (name, content, rows));
            assert_eq!(file.bytes, content.len() as u64);
        }
    }

    #[test]
    fn a_line_end_is_found_wherever_the_limit_falls() {
        let lines = b"ab\r\ncd\r\n";
        let ends: Vec<usize> = (1..=9).map(|room| line_end(lines, room)).collect();
        assert_eq!(ends, [4, 4, 4, 4, 8, 8, 8, 8, 8]);
    }
}
