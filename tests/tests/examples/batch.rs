//! `examples/batch`: its commands, with programs in place of Slurm's and of Kubernetes' that start each job at once.

use serde::Deserialize as _;
use serde_json::Value;
use shiftlens_tests::document::{Workplace, blocks};
use shiftlens_tests::program::{product, same_run};
use shiftlens_tests::root;
use shiftlens_tests::toy::Toy;
use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::fmt::Write as _;

const README: &str = "examples/batch/README.md";

/// The example beside a study of ten patients, whose undisturbed run is `runs/whole`.
fn place() -> Workplace {
    product(&format!("{DLL_PREFIX}shiftlens_gradcam{DLL_SUFFIX}"));
    let toy = Toy::new();
    for i in 0..12u8 {
        toy.picture(&format!("images/high/q{}_{i}.png", i / 2), [150 + 5 * i, 100, 120, 90 + i]);
    }
    toy.edit(r"'^(p\d+)_'", r"'^([pq]\d+)_'");
    let place = Workplace::of(&["examples/batch"]);
    place.take(toy.folder());
    place.sh("shiftlens run study.toml --out runs/whole", &[]).expect(0);
    place
}

/// Runs the job at once. As Slurm does: options of the command line go before those of the script, a job whose dependency has
/// not succeeded is not started, the tasks of an array know nothing of each other.
const SBATCH: &str = r#"#!/bin/sh
set -eu
wrap= array= after=
while [ $# -gt 0 ]; do
    case $1 in
        --parsable) ;;
        --wrap=*) wrap=${1#*=} ;;
        --array=*) array=${1#*=} ;;
        --dependency=afterok:*) after=${1#*:} ;;
        --cpus-per-task=* | --mem=*) ;;
        -*) echo "sbatch: unrecognized option '$1'" >&2; exit 1 ;;
        *) break ;;
    esac
    shift
done
mkdir -p slurm
id=1
while [ -e "slurm/$id" ]; do id=$((id + 1)); done
: >"slurm/$id"
if [ -n "$after" ] && [ ! -e "slurm/$after.succeeded" ]; then
    echo "sbatch: job $after has not succeeded" >&2
    exit 1
fi
job() {
    if ! "$@" >>"slurm/$id" 2>&1; then cat "slurm/$id" >&2; exit 1; fi
}
if [ -n "$wrap" ]; then
    job sh -c "$wrap"
else
    array=${array:-$(sed -n 's/^#SBATCH --array=//p' "$1")}
    case $array in
        *-*) tasks=$(seq "${array%-*}" "${array#*-}") ;;
        *) tasks=$(echo "$array" | tr , ' ') ;;
    esac
    count=$(echo $tasks | wc -w)
    for task in $tasks; do
        job env SLURM_ARRAY_TASK_ID="$task" SLURM_ARRAY_TASK_COUNT="$((count))" "$@"
    done
fi
: >"slurm/$id.succeeded"
echo "$id"
"#;

#[test]
fn an_array_job_of_slurm_leaves_the_run_that_one_machine_leaves() {
    let place = place();
    place.program("sbatch", SBATCH);
    place.program("srun", "#!/bin/sh\nexec \"$@\"\n");
    // Three parts in place of sixteen.
    let script = "examples/batch/slurm.sh";
    place.edit(script, "#SBATCH --array=1-16", "#SBATCH --array=1-3");
    place.edit(README, "PARTS=16", "PARTS=3");
    place.follow(README, Some("slurm"));
    same_run(&place.path("runs/whole"), &place.path("runs/batch/whole"));
    // It was fitted once, and the task that was started again had nothing left to do.
    let log = |job: &str| std::fs::read_to_string(place.path("slurm").join(job)).unwrap();
    assert_eq!(log("2").matches("taking the direction from runs/batch/direction").count(), 3, "{}", log("2"));
    assert_eq!((log("4").matches("nothing to do").count(), log("4").matches("explained").count()), (1, 1));
    assert!(!place.path("slurm/6").exists() && place.path("slurm/5.succeeded").exists());
    // Slurm reads options up to the first command only.
    let text = std::fs::read_to_string(place.path(script)).unwrap();
    let is_comment = |l: &&str| l.starts_with('#') || l.is_empty();
    let (head, body): (Vec<&str>, Vec<&str>) =
        (text.lines().take_while(is_comment).collect(), text.lines().skip_while(is_comment).collect());
    assert!(head.iter().filter(|l| l.starts_with("#SBATCH --")).count() > 4, "{head:?}");
    assert!(!body.iter().any(|l| l.starts_with("#SBATCH")), "{body:?}");
}

/// The documents of `kubernetes.yaml`.
fn jobs(place: &Workplace) -> Vec<Value> {
    let text = std::fs::read_to_string(place.path("examples/batch/kubernetes.yaml")).unwrap();
    let documents = yaml_serde::Deserializer::from_str(&text);
    documents.map(|d| Value::deserialize(d).expect("YAML")).collect()
}

fn texts(list: &Value) -> Vec<String> {
    let all = list.as_array().into_iter().flatten();
    all.map(|v| v.as_str().unwrap_or_else(|| panic!("a text, not {v}")).to_owned()).collect()
}

/// What a job's pods run, as a script: pod after pod, each with its index where the job is indexed.
fn script(job: &Value) -> String {
    let container = &job["spec"]["template"]["spec"]["containers"][0];
    let quoted = |text: &String| format!("'{}'", text.replace('\'', r"'\''"));
    let words: Vec<String> =
        [texts(&container["command"]), texts(&container["args"])].concat().iter().map(quoted).collect();
    let mut set = String::new();
    for variable in container["env"].as_array().into_iter().flatten() {
        let (name, value) = (variable["name"].as_str().unwrap(), variable["value"].as_str().unwrap());
        write!(set, "{name}={} ", quoted(&value.to_owned())).unwrap();
    }
    let mut script = "set -eu\n".to_owned();
    match job["spec"]["completionMode"].as_str() {
        None => writeln!(script, "env {set}{}", words.join(" ")).unwrap(),
        Some(mode) => {
            assert_eq!(mode, "Indexed");
            for i in 0..job["spec"]["completions"].as_u64().unwrap() {
                writeln!(script, "env JOB_COMPLETION_INDEX={i} {set}{}", words.join(" ")).unwrap();
            }
        }
    }
    script
}

/// Runs a step's job at once, and waits for none that has not run.
const KUBECTL: &str = r#"#!/bin/sh
set -eu
case $* in
    "apply -f examples/batch/kubernetes.yaml -l step="*)
        sh -eu "kubernetes/${5#step=}" && : >"kubernetes/${5#step=}.complete" ;;
    "wait --for=condition=complete --timeout="*" job/shiftlens-"*) [ -e "kubernetes/${4#job/shiftlens-}.complete" ] ;;
    *) echo "kubectl: cannot do $*" >&2; exit 1 ;;
esac
"#;

#[test]
fn indexed_jobs_of_kubernetes_leave_the_run_that_one_machine_leaves() {
    let place = place();
    place.program("kubectl", KUBECTL);
    std::fs::create_dir(place.path("kubernetes")).unwrap();
    let all = jobs(&place);
    for job in &all {
        let step = job["metadata"]["labels"]["step"].as_str().expect("a step");
        assert_eq!(job["metadata"]["name"], format!("shiftlens-{step}"));
        std::fs::write(place.path("kubernetes").join(step), script(job)).unwrap();
    }
    assert_eq!(all.len(), 3);
    place.follow(README, Some("kubernetes"));
    same_run(&place.path("runs/whole"), &place.path("runs/batch/whole"));
    // A part that is started again has nothing to do.
    place.sh("sh -eu kubernetes/parts", &[]).expect(0).says(&["\"nothing_to_do\":true"]);
}

#[test]
fn the_jobs_of_kubernetes_agree_with_each_other() {
    let place = Workplace::of(&["examples/batch"]);
    let readme = std::fs::read_to_string(place.path(README)).unwrap();
    for job in jobs(&place) {
        let name = job["metadata"]["name"].as_str().unwrap();
        let spec = &job["spec"];
        let pod = &spec["template"]["spec"];
        assert_eq!((&job["apiVersion"], &job["kind"]), (&"batch/v1".into(), &"Job".into()), "{name}");
        assert_eq!(job["metadata"]["labels"], spec["template"]["metadata"]["labels"], "{name}");
        assert_eq!(pod["restartPolicy"], "OnFailure", "{name}");
        let containers = pod["containers"].as_array().unwrap();
        assert_eq!(containers.len(), 1, "{name}");
        let container = &containers[0];
        // The image is the one that the document builds.
        let image = container["image"].as_str().unwrap();
        assert!(readme.contains(&format!("--tag {image} .")), "{name}: {image}");
        for (what, key) in [("requests", "cpu"), ("requests", "memory"), ("limits", "memory")] {
            assert!(container["resources"][what][key].is_string(), "{name}: {what}.{key}");
        }
        let volumes: Vec<&Value> = pod["volumes"].as_array().unwrap().iter().map(|v| &v["name"]).collect();
        let mounts = container["volumeMounts"].as_array().unwrap();
        assert!(mounts.iter().all(|m| volumes.contains(&&m["name"])), "{name}");
        assert_eq!(container["workingDir"], mounts[0]["mountPath"], "{name}");
        assert!(readme.contains(pod["volumes"][0]["persistentVolumeClaim"]["claimName"].as_str().unwrap()));
        // Kubernetes itself would replace `$(NAME)` and `$$`.
        for text in [texts(&container["command"]), texts(&container["args"])].concat() {
            let named = text.match_indices("$(").any(|(at, _)| !text[at..].starts_with("$(("));
            assert!(!named && !text.contains("$$"), "{name}: {text}");
        }
        if spec["completionMode"] == "Indexed" {
            let parts = container["env"].as_array().unwrap().iter().find(|v| v["name"] == "PARTS").unwrap();
            assert_eq!(parts["value"], spec["completions"].to_string(), "{name}");
            assert!(spec["parallelism"].as_u64() <= spec["completions"].as_u64(), "{name}");
        }
    }
}

#[test]
fn the_image_is_built_of_what_is_there() {
    let place = Workplace::of(&["examples/batch"]);
    let text = std::fs::read_to_string(place.path("examples/batch/Dockerfile")).unwrap();
    let (mut taken, mut built) = (Vec::new(), 0);
    for line in text.lines().filter_map(|l| l.strip_prefix("COPY ")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (sources, _) = words.split_at(words.len() - 1);
        match sources[0].strip_prefix("--from=build") {
            None => {
                assert!(sources.iter().all(|s| root().join(s).exists()), "COPY {line}");
                taken.extend(sources.iter().map(|s| (*s).to_owned()));
            }
            Some(_) => {
                let Some(file) = sources[1].strip_prefix("/src/target/release/") else {
                    assert!(text.contains(&format!("mkdir -p {}", sources[1])), "COPY {line}");
                    continue;
                };
                // What is built for Linux there is built for this system here.
                let stem = file.strip_prefix("lib").and_then(|f| f.strip_suffix(".so"));
                product(&stem.map_or(file.to_owned(), |s| format!("{DLL_PREFIX}{s}{DLL_SUFFIX}")));
                built += 1;
            }
        }
    }
    assert!(built >= 3, "{text}");
    // Cargo wants to see all members of the workspace, and the toolchain is one that it builds with.
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let line = |key: &str| manifest.lines().find_map(|l| l.strip_prefix(key)).unwrap().to_owned();
    for member in line("members = ").split('"').filter(|m| m.contains(char::is_alphabetic)) {
        let inside = |t: &String| member == t || member.starts_with(&format!("{t}/"));
        assert!(taken.iter().any(inside), "{member} is not copied: {taken:?}");
    }
    let rust = line("rust-version = ");
    assert!(text.contains(&format!("FROM rust:{}-", rust.trim_matches('"'))), "{rust}");
    let readme = std::fs::read_to_string(place.path(README)).unwrap();
    let build = blocks(&readme).into_iter().find(|b| b.marks == ["docker"]).expect("how it is built");
    assert!(build.text.contains("--file examples/batch/Dockerfile "), "{}", build.text);
}
