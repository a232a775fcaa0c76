//! Which network of a checkpoint is meant, and its tensors by name: from a tree of modules or from a state dict.

use super::pickle::{Id, Node, Pickle};
use super::torch::{Checkpoint, View};
use shiftlens_api::{Error, Result};
use std::collections::BTreeMap;

/// Modules and tensors that one network may have, and the length of their names: the largest StyleGAN2 has some
/// hundred. Modules that share submodules would otherwise unfold without end.
const MAX_MODULES: usize = 10_000;
const MAX_TENSORS: usize = 20_000;
const MAX_NAME: usize = 256;
/// Attributes and members of all modules together.
const MAX_MEMBERS: usize = 1 << 20;

/// Keys under which checkpoints hold generators: the averaged one, then the one in training.
const KEYS: [&str; 4] = ["G_ema", "g_ema", "G", "g"];

/// A module of the tree.
#[derive(Debug)]
pub struct Module {
    /// Its place, such as `synthesis.b8.conv0`; empty for the network itself.
    pub path: String,
    /// Name of its class.
    pub class: String,
    /// Its attributes.
    pub state: Id,
}

/// The network that was found.
#[derive(Debug, Default)]
pub struct Found {
    /// The key under which it stood; `None` if it was the whole file.
    pub key: Option<&'static str>,
    /// Its tensors.
    pub views: BTreeMap<String, View>,
    /// Its modules, the network first; none in a state dict.
    pub modules: Vec<Module>,
}

/// Class and attributes of an object: of one that carries its source (NVIDIA's `persistence`), or of a plain one.
fn object<'p>(p: &'p Pickle<'_>, id: Id) -> Option<(&'p str, Id)> {
    let call = p.call(id)?;
    if let Some(((module, "_reconstruct_persistent_obj"), [meta])) = p.called(id)
        && module.rsplit('.').next() == Some("persistence")
    {
        let class = p.get(*meta, "class_name").and_then(|c| p.text(c)).unwrap_or("?");
        return Some((class, p.get(*meta, "state")?));
    }
    let class = match (p.called(id), p.global(call.callee)) {
        (Some((("copyreg" | "copy_reg", "_reconstructor"), [class, ..])), _) => p.global(*class)?.1,
        (_, Some((_, name))) => name,
        _ => return None,
    };
    let state = call.state?;
    p.get(state, "_modules").or_else(|| p.get(state, "_parameters"))?;
    Some((class, state))
}

/// Finds the generator.
///
/// # Errors
/// If there is none; the message says what there is.
pub fn find(checkpoint: &Checkpoint<'_>) -> Result<Found> {
    let p = &checkpoint.pickle;
    if let Some(message) = tensorflow(p) {
        return Err(Error::Unsupported(message));
    }
    let named = KEYS.iter().find_map(|k| p.get(p.root(), k).filter(|id| !p.is_none(*id)).map(|id| (*k, id)));
    let (key, id) = named.map_or((None, p.root()), |(k, id)| (Some(k), id));
    let mut found = Found { key, ..Found::default() };
    if let Some((class, state)) = object(p, id) {
        let module = Module { path: String::new(), class: class.to_owned(), state };
        walk(checkpoint, module, &mut found)?;
    } else {
        for (name, value) in p.entries(id).unwrap_or_default() {
            if let Some(name) = p.text(*name) {
                add(checkpoint, name.to_owned(), *value, &mut found)?;
            }
        }
        // rosinality's converted networks have their mean of w beside them.
        if let Some(mean) = p.get(p.root(), "latent_avg")
            && key.is_some()
        {
            add(checkpoint, "latent_avg".into(), mean, &mut found)?;
        }
    }
    if found.views.is_empty() {
        let keys = p.entries(p.root()).unwrap_or_default();
        let keys: Vec<&str> = keys.iter().take(12).filter_map(|(k, _)| p.text(*k)).collect();
        let there = match (key, keys.is_empty()) {
            (Some(key), _) => format!("\"{key}\" holds no tensors"),
            (None, true) => "it is neither a dict of networks nor a network".into(),
            (None, false) => {
                format!("expected one of the keys {}, found {}", KEYS.join(", "), keys.join(", "))
            }
        };
        return Err(Error::Invalid(format!("no generator in the checkpoint: {there}")));
    }
    Ok(found)
}

fn add(checkpoint: &Checkpoint<'_>, name: String, id: Id, found: &mut Found) -> Result<()> {
    let view = checkpoint.view(id).map_err(|e| Error::Invalid(format!("tensor `{}`: {e}", shown(&name))))?;
    if let Some(view) = view {
        if name.len() > MAX_NAME || found.views.len() >= MAX_TENSORS {
            return Err(Error::Invalid(format!(
                "tensor `{}`: too many tensors, or too long a name",
                shown(&name)
            )));
        }
        found.views.insert(name, view);
    }
    Ok(())
}

/// The beginning of a name, for messages.
pub fn shown(name: &str) -> &str {
    name.char_indices().nth(80).map_or(name, |(at, _)| &name[..at])
}

/// All modules and tensors below `root`. Modules wait in a list: however deep they are nested, the stack is not used.
fn walk(checkpoint: &Checkpoint<'_>, root: Module, found: &mut Found) -> Result<()> {
    let p = &checkpoint.pickle;
    let mut open = vec![root];
    let (mut seen, mut members_seen) = (1, 0);
    while let Some(module) = open.pop() {
        let attributes = ["_parameters", "_buffers", "_modules"].map(|kind| p.get(module.state, kind));
        let dicts = attributes.into_iter().flatten().chain([module.state]);
        members_seen += dicts.map(|id| p.entries(id).map_or(0, <[_]>::len)).sum::<usize>();
        if members_seen > MAX_MEMBERS {
            return Err(Error::Invalid(format!("module `{}`: members without end", shown(&module.path))));
        }
        let below = |name: &str| match module.path.as_str() {
            "" => name.to_owned(),
            path => format!("{path}.{name}"),
        };
        let members = |kind: &str| {
            let all = p.get(module.state, kind).and_then(|id| p.entries(id)).unwrap_or_default();
            all.iter().filter_map(|(k, v)| p.text(*k).filter(|k| k.len() <= MAX_NAME).map(|k| (k, *v)))
        };
        for (name, id) in members("_parameters").chain(members("_buffers")) {
            add(checkpoint, below(name), id, found)?;
        }
        for (name, id) in members("_modules") {
            let Some((class, state)) = object(p, id) else { continue };
            let path = below(name);
            seen += 1;
            if seen > MAX_MODULES || path.len() > MAX_NAME {
                return Err(Error::Invalid(format!("module `{}`: modules without end", shown(&path))));
            }
            open.push(Module { path, class: class.to_owned(), state });
        }
        found.modules.push(module);
    }
    Ok(())
}

/// What to say of a pickle of NVIDIA's TensorFlow programs.
fn tensorflow(p: &Pickle<'_>) -> Option<String> {
    p.globals()
        .find(|(module, name)| *name == "Network" && module.contains("tfutil") || module.contains("tflib"))?;
    let built = p.values("build_func_name").find_map(|id| p.text(id));
    let what = match built {
        Some("G_style") => "StyleGAN (the first version)",
        Some("G_paper") => "a progressively grown GAN",
        Some("G_main") => "StyleGAN2",
        _ => "a network",
    };
    Some(format!(
        "{what} of the TensorFlow programs; only files of the PyTorch programs can be imported (their authors offer a \
         converter for StyleGAN2)"
    ))
}

/// What a module says of itself.
pub struct Facts<'p, 'a> {
    pub pickle: &'p Pickle<'a>,
    pub modules: &'p [Module],
}

impl<'p> Facts<'p, '_> {
    /// An attribute wherever a module has it: path and value.
    pub fn all(&self, key: &'static str) -> impl Iterator<Item = (&'p str, Id)> {
        let pickle = self.pickle;
        self.modules.iter().filter_map(move |m| Some((m.path.as_str(), pickle.get(m.state, key)?)))
    }
    /// A number, whatever type it was pickled as.
    pub fn number(&self, id: Id) -> Option<f64> {
        match self.pickle.node(id) {
            Node::Int(i) => Some(*i as f64),
            Node::Float(f) => Some(*f),
            _ => None,
        }
    }
    /// A positive integer among the arguments that the network was made with, by name or, for the first ones, by
    /// position.
    ///
    /// # Errors
    /// If it is something else.
    pub fn argument(&self, path: &[&str], position: Option<usize>) -> Result<Option<usize>> {
        let Some(network) = self.modules.first() else { return Ok(None) };
        let p = self.pickle;
        let by_name = p.get(network.state, "_init_kwargs").and_then(|mut at| {
            for key in path {
                at = p.get(at, key)?;
            }
            Some(at)
        });
        let by_place = || {
            let all = p.get(network.state, "_init_args").and_then(|id| p.elements(id))?;
            all.get(position?).copied()
        };
        let Some(id) = by_name.or_else(by_place).filter(|id| !p.is_none(*id)) else { return Ok(None) };
        let value = p.int(id).and_then(|i| usize::try_from(i).ok());
        value.map(Some).ok_or_else(|| {
            Error::Invalid(format!(
                "the network's argument {}: expected an integer of at least 0",
                path.join(".")
            ))
        })
    }
}
