//! Finer-CAM's question: which classes are near the target, and how does its lead over them change with a layer?

use crate::api::{Error, GradientOutput, Result, Scores, Target, Tensor};
use crate::nearest::suggest;
use crate::params::{Class, References};

/// The reference classes of each image, `[N][D]`, all D alike.
///
/// The nearest are those with the smallest `|f_d - f_c|` of the values that f answers, ties by index; never more
/// than there are besides the target.
///
/// # Errors
/// [`Error::Invalid`] for a class that f does not have, the target itself, or one that is listed twice;
/// [`Error::Unsupported`] if the target is f's only class.
pub fn references(
    wanted: &References,
    classes: &[String],
    target: &Target,
    scores: &Scores,
) -> Result<Vec<Vec<usize>>> {
    let images = scores.shape()[0];
    match wanted {
        References::Listed(list) => Ok(vec![listed(list, classes, target)?; images]),
        References::Nearest(count) => {
            if classes.len() < 2 {
                return Err(Error::Unsupported(format!(
                    "Finer-CAM compares the target with other classes; f has `{}` alone",
                    target.name
                )));
            }
            Ok((0..images).map(|i| nearest(*count, scores.row(i), target.class)).collect())
        }
    }
}

fn listed(list: &[Class], classes: &[String], target: &Target) -> Result<Vec<usize>> {
    let invalid = |why: String| Error::Invalid(format!("gradcam: params.references: {why}"));
    let mut found = Vec::with_capacity(list.len());
    for class in list {
        let index = match class {
            Class::Index(k) if *k < classes.len() => *k,
            Class::Index(k) => {
                return Err(invalid(format!(
                    "there is no class {k}, f has {} classes from 0",
                    classes.len()
                )));
            }
            Class::Name(name) => classes.iter().position(|c| c == name).ok_or_else(|| {
                let names: Vec<&str> = classes.iter().map(String::as_str).collect();
                invalid(format!("f has no class `{name}`; {}", suggest(name, &names)))
            })?,
        };
        if index == target.class {
            return Err(invalid(format!("`{}` is the target itself", target.name)));
        }
        if found.contains(&index) {
            return Err(invalid(format!("class {index} (`{}`) is listed twice", classes[index])));
        }
        found.push(index);
    }
    Ok(found)
}

fn nearest(count: usize, scores: &[f32], target: usize) -> Vec<usize> {
    let mut others: Vec<usize> = (0..scores.len()).filter(|k| *k != target).collect();
    // A stable sort: ties stay in the order of the classes.
    others
        .sort_by(|a, b| (scores[*a] - scores[target]).abs().total_cmp(&(scores[*b] - scores[target]).abs()));
    others.truncate(count);
    others
}

/// Takes `share` of the gradients of `other` off those of `all`, layer by layer.
///
/// # Errors
/// [`Error::Shape`] if the two are of different shapes.
pub fn subtract(all: &mut GradientOutput, share: f64, other: GradientOutput) -> Result<()> {
    let shapes = |o: &GradientOutput| o.gradients.iter().map(|g| g.shape().to_vec()).collect::<Vec<_>>();
    if shapes(all) != shapes(&other) {
        return Err(Error::component("predictor", "gradients of two classes have different shapes"));
    }
    for (g, o) in all.gradients.iter_mut().zip(other.gradients) {
        let shape = g.shape().to_vec();
        let pairs = g.as_slice().iter().zip(o.as_slice());
        let difference = pairs.map(|(g, o)| (f64::from(*g) - share * f64::from(*o)) as f32).collect();
        *g = Tensor::new(shape, difference)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(wanted: References) -> Result<Vec<Vec<usize>>> {
        let classes = ["ant", "bee", "cat", "dog"].map(String::from);
        let scores = Scores::new([2, 4], vec![0.4, 0.3, 0.05, 0.15, 0.0, 0.5, 0.25, 0.25]).unwrap();
        references(&wanted, &classes, &Target { class: 1, name: "bee".into() }, &scores)
    }

    #[test]
    fn the_nearest_classes_are_those_of_each_image() {
        assert_eq!(ask(References::Nearest(1)).unwrap(), [[0], [2]]);
        assert_eq!(ask(References::Nearest(2)).unwrap(), [[0, 3], [2, 3]]);
        assert_eq!(ask(References::Nearest(9)).unwrap(), [[0, 3, 2], [2, 3, 0]]);
    }

    #[test]
    fn listed_classes_are_checked() {
        let name = |n: &str| Class::Name(n.into());
        assert_eq!(ask(References::Listed(vec![name("dog"), Class::Index(0)])).unwrap(), [[3, 0], [3, 0]]);
        for (list, words) in [
            (vec![Class::Index(4)], "no class 4"),
            (vec![name("dot")], "did you mean `dog`?"),
            (vec![name("bee")], "the target itself"),
            (vec![Class::Index(0), name("ant")], "listed twice"),
        ] {
            let text = ask(References::Listed(list)).unwrap_err().to_string();
            assert!(text.contains(words), "{text}");
        }
        let scores = Scores::new([1, 1], vec![0.5]).unwrap();
        let target = Target { class: 0, name: "ill".into() };
        assert!(references(&References::Nearest(3), &["ill".into()], &target, &scores).is_err());
    }
}
