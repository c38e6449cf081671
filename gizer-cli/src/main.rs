//! The `gizer` command; everything is in the library beside it.

fn main() -> std::process::ExitCode {
    gizer_cli::run().into()
}
