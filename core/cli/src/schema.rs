//! `shiftlens schema`: the JSON Schemas of manifests.

use clap::{Args, ValueEnum};
use shiftlens_engine::manifest::schema;

#[derive(Debug, Args)]
pub struct Schema {
    /// Of which manifest
    #[arg(value_enum)]
    of: Manifest,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Manifest {
    /// What `run`, `explain`, `check` and `measure` read
    Study,
    /// What `train generator` reads
    TrainGenerator,
    /// What `train encoder` reads
    TrainEncoder,
}

/// Prints a schema.
pub fn schema(command: &Schema) -> crate::Done {
    let schema = match command.of {
        Manifest::Study => schema::study(),
        Manifest::TrainGenerator => schema::train_generator(),
        Manifest::TrainEncoder => schema::train_encoder(),
    };
    println!("{schema:#}");
    Ok(())
}
