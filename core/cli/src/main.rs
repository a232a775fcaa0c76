//! The `shiftlens` program.
//!
//! Exit codes: 0 if the work was done (a run with some bad images among good ones is done: they are named on the
//! screen and in the report); 1 if work failed, or no image could be explained; 2 if the command line, the manifest or
//! something that the manifest names cannot be used, in which case nothing was run.

mod args;
mod convert;
mod events;
mod failure;
mod generate;
mod grad;
mod import;
mod init;
mod inspect;
mod job;
mod measure;
mod progress;
mod schema;
mod study;
mod train;

use args::{Cli, Command};
use clap::Parser;
use failure::Failure;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Before any thread starts: training needs second-order gradients.
    shiftlens_stylegan2::enable_second_order();
    let done = match Cli::parse().command {
        Command::Run(a) => study::run(&a),
        Command::Explain(a) => study::explain(&a),
        Command::Merge(a) => job::merge(&a),
        Command::Check(a) => study::check(&a),
        Command::Init(a) => init::init(&a),
        Command::Schema(a) => schema::schema(&a),
        Command::Plugins { paths } => inspect::plugins(&paths),
        Command::Layers { model, size } => inspect::layers(&model, size),
        Command::Grad(a) => grad::grad(&a),
        Command::Train(a) => {
            shiftlens_stylegan2::keep_memory();
            train::train(&a)
        }
        Command::Import(a) => import::import(&a),
        Command::Convert(a) => convert::convert(&a),
        Command::Generate(a) => generate::generate(&a),
        Command::Measure(a) => measure::measure(&a),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            failure.code()
        }
    }
}

/// What every command answers.
type Done = Result<(), Failure>;
