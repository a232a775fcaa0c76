//! Reading, normalising and asking questions of ONNX models.
//!
//! [`Model::load`] reads a file and makes it edible for every backend:
//!
//! * arrays stored outside the file are read in (beside the file, never elsewhere);
//! * constants ("initialisers") that old exporters also list among the graph inputs are taken off that list, and
//!   `ir_version` is raised to 4, the first that allows it (ONNX IR specification, "Graphs"). Such inputs are only
//!   overridable defaults; the embedded backend cannot load them.

use crate::proto::{
    self, AttributeProto, DimensionValue, GraphProto, ModelProto, NodeProto, TensorProto, TypeValue,
    ValueInfoProto,
};
use prost::Message;
use sha2::{Digest, Sha256};
use shiftlens_api::{Error, Result};
use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

/// A protobuf message cannot be larger than this; runtimes refuse to parse more.
const PROTOBUF_LIMIT: usize = i32::MAX as usize;

/// One axis of a declared shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dim {
    /// A fixed size.
    Fixed(usize),
    /// Chosen when the model runs; the exporter's name for it may be empty.
    Dynamic(String),
}

impl Dim {
    /// The size, where it is fixed.
    pub fn fixed(&self) -> Option<usize> {
        match self {
            Self::Fixed(n) => Some(*n),
            Self::Dynamic(_) => None,
        }
    }
}

/// Prints a declared shape as `[batch, 3, 64, 64]`.
pub fn show_dims(dims: &[Dim]) -> String {
    let parts: Vec<String> = dims
        .iter()
        .map(|d| match d {
            Dim::Fixed(n) => n.to_string(),
            Dim::Dynamic(s) if s.is_empty() => "?".into(),
            Dim::Dynamic(s) => s.clone(),
        })
        .collect();
    format!("[{}]", parts.join(", "))
}

/// A graph input or output as declared.
#[derive(Debug, Clone, PartialEq)]
pub struct Port {
    /// Name of the tensor.
    pub name: String,
    /// `TensorProto.DataType`; 0 where it is not declared.
    pub data_type: i32,
    /// The shape; `None` where it is not declared.
    pub dims: Option<Vec<Dim>>,
}

/// A normalised model.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    proto: ModelProto,
    name: String,
}

impl Model {
    /// Reads and normalises a model file; its `sha256` (64 hexadecimal digits) is checked first, if given.
    ///
    /// # Errors
    /// [`Error::Io`] for a file that cannot be read, [`Error::Invalid`] for another checksum, for bytes that are no
    /// ONNX model, and for external data that is missing or lies elsewhere.
    pub fn load(path: impl AsRef<Path>, sha256: Option<&str>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
        if let Some(expected) = sha256 {
            let found = hex(&Sha256::digest(&bytes));
            if !found.eq_ignore_ascii_case(expected.trim()) {
                return Err(Error::Invalid(format!(
                    "{}: the file's sha256 is {found}, the manifest pins {expected}; \
                     check that it is the intended model, then update the pin",
                    path.display()
                )));
            }
        }
        Self::from_bytes(&bytes, &path.display().to_string(), path.parent())
    }

    /// Reads and normalises a model from memory. `name` is used in messages; arrays stored outside the model are
    /// looked for in `folder`.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn from_bytes(bytes: &[u8], name: &str, folder: Option<&Path>) -> Result<Self> {
        let not_onnx = |why: String| {
            Error::Invalid(format!(
                "{name}: not an ONNX model ({why}); expected the .onnx file of an exporter"
            ))
        };
        let proto = ModelProto::decode(bytes).map_err(|e| not_onnx(e.to_string()))?;
        match &proto.graph {
            None => return Err(not_onnx("it holds no graph".into())),
            Some(g) if g.node.is_empty() || g.output.is_empty() => {
                return Err(not_onnx("its graph has no nodes or no outputs".into()));
            }
            Some(_) => {}
        }
        let mut model = Self { proto, name: name.to_owned() };
        model.inline_external_data(folder)?;
        model.normalise();
        Ok(model)
    }

    fn normalise(&mut self) {
        let graph = self.proto.graph.get_or_insert_default();
        let constants: HashSet<String> = graph
            .initializer
            .iter()
            .filter_map(|t| t.name.clone())
            .chain(graph.sparse_initializer.iter().filter_map(|s| s.values.as_ref()?.name.clone()))
            .collect();
        graph.input.retain(|i| !constants.contains(i.name()));
        if self.proto.ir_version.unwrap_or(0) < 4 {
            self.proto.ir_version = Some(4);
        }
    }

    fn inline_external_data(&mut self, folder: Option<&Path>) -> Result<()> {
        let name = self.name.clone();
        let mut first_error = None;
        if let Some(graph) = self.proto.graph.as_mut() {
            for_each_tensor(graph, &mut |t| {
                if first_error.is_none()
                    && t.data_location == Some(proto::EXTERNAL)
                    && let Err(e) = read_external(t, &name, folder)
                {
                    first_error = Some(e);
                }
            });
        }
        first_error.map_or(Ok(()), Err)
    }

    /// What messages call the model: its path.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The graph.
    pub fn graph(&self) -> &GraphProto {
        self.proto.graph.as_ref().expect("checked when the model was read")
    }

    /// The graph, to be edited.
    pub fn graph_mut(&mut self) -> &mut GraphProto {
        self.proto.graph.get_or_insert_default()
    }

    /// The whole message.
    pub fn proto(&self) -> &ModelProto {
        &self.proto
    }

    /// Version of the standard operator set that the model is written in.
    pub fn opset(&self) -> i64 {
        let standard = |d: &str| d.is_empty() || d == "ai.onnx";
        self.proto
            .opset_import
            .iter()
            .filter(|o| standard(o.domain.as_deref().unwrap_or("")))
            .map(|o| o.version.unwrap_or(1))
            .max()
            .unwrap_or(1)
    }

    /// The model as a file's content.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a model above protobuf's limit of 2 GiB.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let len = self.proto.encoded_len();
        if len > PROTOBUF_LIMIT {
            return Err(Error::Unsupported(format!(
                "{}: the model holds {len} bytes, more than the 2 GiB that a protobuf message may have",
                self.name
            )));
        }
        Ok(self.proto.encode_to_vec())
    }

    /// Inputs that must be fed.
    pub fn inputs(&self) -> Vec<Port> {
        self.graph().input.iter().map(port).collect()
    }

    /// Declared outputs.
    pub fn outputs(&self) -> Vec<Port> {
        self.graph().output.iter().map(port).collect()
    }

    /// The node that makes a tensor, and its place in the graph.
    pub fn producer(&self, tensor: &str) -> Option<(usize, &NodeProto)> {
        self.graph().node.iter().enumerate().find(|(_, n)| n.output.iter().any(|o| o == tensor))
    }

    /// Fixes the first axis of input `name` to `batch` and forgets declared shapes that no longer need hold
    /// (outputs and inner tensors).
    pub fn fix_input(&mut self, name: &str, shape: &[usize]) {
        let graph = self.graph_mut();
        graph.value_info.clear();
        for output in &mut graph.output {
            if let Some(TypeValue::TensorType(t)) = output.r#type.as_mut().and_then(|t| t.value.as_mut()) {
                t.shape = None;
            }
        }
        for input in graph.input.iter_mut().filter(|i| i.name() == name) {
            let elem = port(input).data_type;
            *input = value_info(name, elem, Some(shape));
        }
    }
}

/// Describes a tensor for a graph's inputs or outputs.
pub fn value_info(name: &str, data_type: i32, shape: Option<&[usize]>) -> ValueInfoProto {
    let shape = shape.map(|s| proto::TensorShapeProto {
        dim: s
            .iter()
            .map(|d| proto::DimensionProto {
                value: Some(DimensionValue::DimValue(*d as i64)),
                denotation: None,
            })
            .collect(),
    });
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(proto::TypeProto {
            value: Some(TypeValue::TensorType(proto::TensorTypeProto { elem_type: Some(data_type), shape })),
            denotation: None,
        }),
        ..Default::default()
    }
}

fn port(v: &ValueInfoProto) -> Port {
    let tensor = match v.r#type.as_ref().and_then(|t| t.value.as_ref()) {
        Some(TypeValue::TensorType(t)) => Some(t),
        _ => None,
    };
    let dims = tensor.and_then(|t| t.shape.as_ref()).map(|s| {
        s.dim
            .iter()
            .map(|d| match &d.value {
                Some(DimensionValue::DimValue(n)) if *n > 0 => Dim::Fixed(*n as usize),
                Some(DimensionValue::DimParam(p)) => Dim::Dynamic(p.clone()),
                _ => Dim::Dynamic(String::new()),
            })
            .collect()
    });
    Port { name: v.name().to_owned(), data_type: tensor.and_then(|t| t.elem_type).unwrap_or(0), dims }
}

/// Calls `f` for every array in the graph: constants, attributes, subgraphs.
fn for_each_tensor(graph: &mut GraphProto, f: &mut dyn FnMut(&mut TensorProto)) {
    graph.initializer.iter_mut().for_each(&mut *f);
    for s in &mut graph.sparse_initializer {
        s.values.iter_mut().chain(&mut s.indices).for_each(&mut *f);
    }
    for a in graph.node.iter_mut().flat_map(|n| &mut n.attribute) {
        a.t.iter_mut().map(|t| &mut **t).chain(&mut a.tensors).for_each(&mut *f);
        for g in a.g.iter_mut().map(|g| &mut **g).chain(&mut a.graphs) {
            for_each_tensor(g, f);
        }
    }
}

/// Reads one array that lies outside the model file (`location`, `offset`, `length`).
fn read_external(t: &mut TensorProto, model: &str, folder: Option<&Path>) -> Result<()> {
    let entry = |key: &str| {
        t.external_data.iter().find(|e| e.key.as_deref() == Some(key)).and_then(|e| e.value.as_deref())
    };
    let what = format!("{model}: array \"{}\"", t.name.as_deref().unwrap_or(""));
    let location = entry("location")
        .ok_or_else(|| Error::Invalid(format!("{what} is stored outside the file, but no place is given")))?;
    let number = |key: &str| -> Result<Option<usize>> {
        entry(key)
            .map(|v| {
                v.parse().map_err(|_| {
                    Error::Invalid(format!("{what}: {key} = \"{v}\", expected a number of bytes"))
                })
            })
            .transpose()
    };
    let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
    let relative = PathBuf::from(location);
    if relative.components().any(|c| !matches!(c, Component::Normal(_) | Component::CurDir)) {
        return Err(Error::Invalid(format!(
            "{what} is stored in \"{location}\"; only files beside the model are read, so export it again with the \
             data beside or inside the model"
        )));
    }
    let path = folder
        .ok_or_else(|| {
            Error::Invalid(format!("{what} is stored in \"{location}\", but the model has no folder"))
        })?
        .join(relative);
    let data = read_range(&path, offset, length).map_err(|e| {
        Error::Invalid(format!(
            "{what} is stored in {}, which cannot be read ({e}); keep that file beside the model",
            path.display()
        ))
    })?;
    t.raw_data = Some(data);
    t.data_location = None;
    t.external_data.clear();
    Ok(())
}

fn read_range(path: &Path, offset: usize, length: Option<usize>) -> std::io::Result<Vec<u8>> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = std::fs::File::open(path)?;
    file.seek(SeekFrom::Start(offset as u64))?;
    let mut data = Vec::new();
    match length {
        None => {
            file.read_to_end(&mut data)?;
        }
        Some(n) => {
            file.take(n as u64).read_to_end(&mut data)?;
            if data.len() != n {
                return Err(std::io::Error::new(
                    std::io::ErrorKind::UnexpectedEof,
                    format!("{n} bytes expected at offset {offset}, {} found", data.len()),
                ));
            }
        }
    }
    Ok(data)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

impl NodeProto {
    /// The operator, empty where there is none.
    pub fn op(&self) -> &str {
        self.op_type.as_deref().unwrap_or("")
    }
    /// True for the standard operator set.
    pub fn is_standard(&self) -> bool {
        matches!(self.domain.as_deref().unwrap_or(""), "" | "ai.onnx")
    }
    /// The attribute `name`.
    pub fn attr(&self, name: &str) -> Option<&AttributeProto> {
        self.attribute.iter().find(|a| a.name.as_deref() == Some(name))
    }
    /// An integer attribute.
    pub fn int(&self, name: &str, default: i64) -> i64 {
        self.attr(name).and_then(|a| a.i).unwrap_or(default)
    }
    /// A float attribute.
    pub fn float(&self, name: &str, default: f32) -> f32 {
        self.attr(name).and_then(|a| a.f).unwrap_or(default)
    }
    /// An attribute of integers.
    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        self.attr(name).map(|a| a.ints.as_slice())
    }
    /// A string attribute, empty where it is absent.
    pub fn string(&self, name: &str) -> &str {
        self.attr(name).and_then(|a| a.s.as_deref()).and_then(|s| std::str::from_utf8(s).ok()).unwrap_or("")
    }
    /// Input `i`, `None` where it is left out.
    pub fn input_name(&self, i: usize) -> Option<&str> {
        self.input.get(i).map(String::as_str).filter(|s| !s.is_empty())
    }
    /// What messages call the node: its name, or its first output.
    pub fn label(&self) -> &str {
        match self.name.as_deref() {
            Some(n) if !n.is_empty() => n,
            _ => self.output.first().map_or("", String::as_str),
        }
    }
}

#[cfg(test)]
#[path = "graph_tests.rs"]
mod tests;
