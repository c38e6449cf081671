//! Versions of the server.

use std::fmt;

/// A version of mongod or mongos, as `buildInfo` gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerVersion {
    /// The release line's first number.
    pub major: u32,
    /// The release line's second number.
    pub minor: u32,
    /// The patch release.
    pub patch: u32,
}

impl ServerVersion {
    /// The oldest release line that gizer and the driver support.
    pub const OLDEST: ReleaseLine = ReleaseLine(4, 4);

    /// Parses `version` of `buildInfo`; a suffix as in `6.0.0-rc1` is ignored.
    pub fn parse(text: &str) -> Option<ServerVersion> {
        let mut numbers = text.split(['.', '-', '+']).map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some(ServerVersion { major: next()?, minor: next()?, patch: next().unwrap_or(0) })
    }

    /// Whether gizer supports this version.
    pub fn is_supported(self) -> bool {
        self.line() >= Self::OLDEST
    }

    /// The release line, such as 5.0.
    pub fn line(self) -> ReleaseLine {
        ReleaseLine(self.major, self.minor)
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// A release line such as 4.4: major and minor number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReleaseLine(pub u32, pub u32);

impl fmt::Display for ReleaseLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// The release of a `maxWireVersion`, for servers too old for the driver. The numbers are those of
/// `enum WireVersion` in the server's `wire_version.h`.
pub(crate) fn release_of_wire_version(max_wire_version: i32) -> &'static str {
    match max_wire_version {
        ..=1 => "2.4 or older",
        2 => "2.6",
        3 => "3.0",
        4 => "3.2",
        5 => "3.4",
        6 => "3.6",
        7 => "4.0",
        8 => "4.2",
        _ => "4.4 or later",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let parse = |text| ServerVersion::parse(text).unwrap();
        assert_eq!(parse("4.4.29"), ServerVersion { major: 4, minor: 4, patch: 29 });
        assert_eq!(parse("6.0.0-rc1").to_string(), "6.0.0");
        assert!(parse("10.0.1") > parse("4.4.2"));
        assert!(parse("4.4.2").is_supported());
        assert!(!parse("4.2.24").is_supported());
        assert_eq!(ServerVersion::parse("unknown"), None);
    }
}
