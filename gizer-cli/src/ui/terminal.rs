//! What a terminal can show.

use std::io::IsTerminal;

/// Whether whoever reads this stream sees colours, and wants them (no-color.org).
pub(crate) fn sees_colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
