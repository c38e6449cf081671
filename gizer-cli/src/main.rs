//! The `gizer` command; everything is in the library beside it.

fn main() -> std::process::ExitCode {
    gizer_cli::allocator::give_large_blocks_back();
    gizer_cli::run().into()
}
