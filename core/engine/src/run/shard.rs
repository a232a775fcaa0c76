//! Which images of a list a run explains, and which of them go through the models together.
//!
//! Images are batched in an order that depends on nothing but the list: groups (patients) by a hash of their names, within
//! a group as they are listed. Images without a group are a group each; the frames of one file are one. A part of `n` owns
//! those groups whose hash lies in its n-th of all hashes, so that it is a stretch of that order, a group never comes into
//! two parts, and it stays in its part when others are added to the list. A batch that reaches over a part's end is
//! computed by both neighbours, each of which keeps its own cases. So every image meets the same others in whatever part it
//! is explained, alone, or after a stop, and all its numbers are the same.

use super::folder::{RunFolder, read_json};
use crate::data::Item;
use crate::registry::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use shiftlens_api::{Error, Result};
use shiftlens_input::nearest::nearest;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// Name of the file that makes a run's folder one of a part.
pub(super) const FILE: &str = "shard.json";

/// A part of a list: `3/16` is the third of sixteen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Shard {
    /// Which, counted from 1.
    pub part: usize,
    /// Of how many.
    pub parts: usize,
}

impl Shard {
    /// True if a group with this hash is in the part: hashes are cut into `parts` stretches of one length.
    fn owns(self, hash: u64) -> bool {
        (u128::from(hash) * self.parts as u128) >> 64 == self.part as u128 - 1
    }
}

impl FromStr for Shard {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        match numbers {
            Some((part, parts)) if 1 <= part && part <= parts => Ok(Self { part, parts }),
            _ => Err("expected a part and how many there are, from 1/16 to 16/16".into()),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.part, self.parts)
    }
}

/// `shard.json`: what a folder's run is a part of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ShardRecord {
    /// Which part.
    #[serde(flatten)]
    pub shard: Shard,
    /// Images in the whole list.
    pub images: usize,
    /// sha256 over the whole list: ids, groups, labels, frames and metadata.
    pub list: String,
    /// Places in the whole list, from 0, of the cases in `run.json`, in its order.
    pub cases: Vec<usize>,
    /// The same of its failures.
    pub failures: Vec<usize>,
}

impl ShardRecord {
    /// That of the part in `folder`; `None` if it holds no part.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        match read_json(&folder.join(FILE)) {
            Ok(record) => Ok(Some(record)),
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// The first 64 bits of a name's sha256.
fn hash(kind: &str, name: &str) -> u64 {
    let mut sum = Sha256::new();
    sum.update(kind.as_bytes());
    sum.update([0]);
    sum.update(name.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&sum.finalize()[..8]);
    u64::from_be_bytes(first)
}

/// sha256 over a list.
fn sum_of(items: &[Item]) -> String {
    let mut sum = Sha256::new();
    for i in items {
        let line = serde_json::json!([i.id, i.group, i.label, i.frame, i.metadata]);
        sum.update(line.to_string().as_bytes());
        sum.update(b"\n");
    }
    hex(&sum.finalize())
}

/// The images of a list in the order in which they are batched, with their groups' hashes.
fn order(items: &[Item]) -> Vec<(u64, usize)> {
    // Groups whose hashes agree are still told apart, by their first members.
    let mut first: HashMap<(&str, &str), usize> = HashMap::new();
    let mut files: HashMap<&Path, usize> = HashMap::new();
    let mut all: Vec<(u64, usize, usize)> = items
        .iter()
        .enumerate()
        .map(|(i, item)| {
            let (kind, name) = match &item.group {
                Some(group) => ("group", group.as_str()),
                None if item.frame.is_some() => {
                    ("image", items[*files.entry(&item.path).or_insert(i)].id.as_str())
                }
                None => ("image", item.id.as_str()),
            };
            (hash(kind, name), *first.entry((kind, name)).or_insert(i), i)
        })
        .collect();
    all.sort_unstable();
    all.into_iter().map(|(hash, _, i)| (hash, i)).collect()
}

/// What a run is to explain of a list.
#[derive(Debug)]
pub(super) struct Selection {
    /// The part, where it is not the whole; its places are empty.
    pub shard: Option<ShardRecord>,
    /// True for images of the part.
    pub mine: Vec<bool>,
    /// True for those of them that were asked for.
    pub asked: Vec<bool>,
    order: Vec<(u64, usize)>,
}

impl Selection {
    /// # Errors
    /// [`Error::Invalid`] for an id of `only` that is not in the list.
    pub fn new(items: &[Item], shard: Option<Shard>, only: &[String]) -> Result<Self> {
        let order = order(items);
        let mut mine = vec![true; items.len()];
        if let Some(shard) = shard {
            order.iter().for_each(|(hash, i)| mine[*i] = shard.owns(*hash));
        }
        let shard = shard.map(|shard| ShardRecord {
            shard,
            images: items.len(),
            list: sum_of(items),
            cases: Vec::new(),
            failures: Vec::new(),
        });
        let mut asked = mine.clone();
        if !only.is_empty() {
            let places: BTreeMap<&str, usize> =
                items.iter().enumerate().map(|(i, item)| (item.id.as_str(), i)).collect();
            asked.fill(false);
            for id in only {
                let Some(i) = places.get(id.as_str()) else {
                    let near = nearest(id, places.keys().copied());
                    let help = near.map(|n| format!(": did you mean `{n}`?")).unwrap_or_default();
                    return Err(Error::Invalid(format!(
                        "no image of the list has the id `{id}`{help} (a case's id is the name of its folder)"
                    )));
                };
                asked[*i] = mine[*i];
            }
        }
        Ok(Self { shard, mine, asked, order })
    }

    /// The batches of `size` with at least one image that is wanted, in order.
    pub fn batches(&self, size: usize, wanted: &[bool]) -> Vec<Vec<usize>> {
        let batches = self.order.chunks(size).map(|chunk| chunk.iter().map(|(_, i)| *i).collect());
        batches.filter(|batch: &Vec<usize>| batch.iter().any(|i| wanted[*i])).collect()
    }

    /// Refuses a folder that holds another part of the same study.
    pub fn check_folder(&self, root: &Path) -> Result<()> {
        let (held, now) = (ShardRecord::read(root)?, self.shard.as_ref());
        let name = |s: Option<Shard>| s.map_or("the whole list".to_owned(), |s| format!("part {s}"));
        let fresh = held.is_none() && !root.join("run.json").exists();
        if fresh || held.as_ref().map(|h| h.shard) == now.map(|n| n.shard) {
            return Ok(());
        }
        Err(Error::Invalid(format!(
            "{}: the folder holds {} of this study, asked for is {}. Next: choose another folder with --out for each part, \
             and join them with `shiftlens merge`",
            root.display(),
            name(held.map(|h| h.shard)),
            name(now.map(|n| n.shard)),
        )))
    }

    /// Notes in `folder` which part it holds, and the places of its cases and failures.
    pub fn note(&self, folder: &RunFolder, cases: &[usize], failures: &[usize]) -> Result<()> {
        let Some(shard) = &self.shard else { return Ok(()) };
        let record = ShardRecord { cases: cases.to_vec(), failures: failures.to_vec(), ..shard.clone() };
        folder.write_json(FILE, &record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(id: &str, group: Option<&str>) -> Item {
        Item {
            id: id.into(),
            path: format!("{id}.png").into(),
            frame: None,
            group: group.map(str::to_owned),
            label: None,
            mask: None,
            metadata: vec![],
        }
    }

    fn patients(n: usize) -> Vec<Item> {
        (0..n).map(|i| item(&format!("k{i:03}"), Some(&format!("p{}", i / 3)))).collect()
    }

    #[test]
    fn parts_are_read_and_refused() {
        assert_eq!("3/16".parse(), Ok(Shard { part: 3, parts: 16 }));
        for wrong in ["0/4", "5/4", "1", "1/0", "a/b", "1/2/3", "-1/2", ""] {
            assert!(wrong.parse::<Shard>().unwrap_err().contains("1/16"), "{wrong}");
        }
    }

    #[test]
    fn every_group_is_in_one_part_and_stays_there() {
        let items = patients(300);
        for parts in [1, 2, 3, 7, 16, 400] {
            let all: Vec<Vec<bool>> = (1..=parts)
                .map(|part| Selection::new(&items, Some(Shard { part, parts }), &[]).unwrap().mine)
                .collect();
            for i in 0..items.len() {
                assert_eq!(all.iter().filter(|mine| mine[i]).count(), 1);
                assert!(all.iter().all(|mine| mine[i] == mine[i / 3 * 3]), "a group was cut");
            }
        }
        // 100 groups in 4 parts: binomial with mean 25 and standard deviation 4.3.
        let of =
            |items: &[Item], part| Selection::new(items, Some(Shard { part, parts: 4 }), &[]).unwrap().mine;
        for part in 1..=4 {
            let groups = of(&items, part).iter().filter(|m| **m).count() / 3;
            assert!((12..=38).contains(&groups), "{groups}");
        }
        let mut more = patients(150);
        more.insert(0, item("new", Some("another")));
        for part in 1..=4 {
            assert_eq!(of(&more, part)[1..], of(&items, part)[..150]);
        }
    }

    #[test]
    fn batches_are_those_of_the_whole_list_in_every_part() {
        let items = patients(100);
        let everything = Selection::new(&items, None, &[]).unwrap();
        let whole = everything.batches(8, &everything.mine);
        assert_eq!(whole.len(), 13);
        let mut seen: Vec<usize> = whole.concat();
        seen.sort_unstable();
        assert_eq!(seen, (0..100).collect::<Vec<_>>());
        for part in 1..=5 {
            let s = Selection::new(&items, Some(Shard { part, parts: 5 }), &[]).unwrap();
            let batches = s.batches(8, &s.mine);
            assert!(batches.iter().all(|b| whole.contains(b)));
            // A part is a stretch of the order: at most its first and last batch are shared.
            let shared = batches.iter().filter(|b| !b.iter().all(|i| s.mine[*i])).count();
            assert!(shared <= 2, "{shared}");
        }
    }

    #[test]
    fn hashes_are_those_of_sha256() {
        // printf 'group\0p7' | sha256sum
        assert_eq!(hash("group", "p7"), 0xd804_0448_ec57_aeb9);
    }

    #[test]
    fn frames_of_a_file_stay_together() {
        let frame =
            |i: usize| Item { path: "scan.dcm".into(), frame: Some(i), ..item(&format!("scan-{i}"), None) };
        let mut items: Vec<Item> = (0..20).map(|i| item(&format!("k{i}"), None)).collect();
        items.extend((1..=20).map(frame));
        let order: Vec<usize> = order(&items).into_iter().map(|(_, i)| i).collect();
        let first = order.iter().position(|i| *i == 20).unwrap();
        assert_eq!(order[first..first + 20], (20..40).collect::<Vec<_>>());
    }

    #[test]
    fn ids_that_are_asked_for_must_be_there() {
        let items = patients(9);
        let only = |ids: &[&str]| {
            let ids: Vec<String> = ids.iter().map(|s| (*s).to_owned()).collect();
            Selection::new(&items, None, &ids).map(|s| s.asked)
        };
        let asked = only(&["k004", "k001"]).unwrap();
        assert_eq!(asked.iter().enumerate().filter(|(_, a)| **a).map(|(i, _)| i).collect::<Vec<_>>(), [1, 4]);
        let e = only(&["k01"]).unwrap_err().to_string();
        assert!(e.contains("`k01`") && e.contains("did you mean `k0"), "{e}");
    }
}
