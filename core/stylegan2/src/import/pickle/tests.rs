//! Pickles that Python wrote, that Python 2 wrote, and broken ones.

use super::*;
use serde_json::{Value, json};
use std::process::Command;

fn value(p: &Pickle<'_>, id: Id) -> Value {
    let list = |v: &[Id]| v.iter().map(|i| value(p, *i)).collect::<Vec<_>>();
    let pairs =
        |v: &[(Id, Id)]| v.iter().map(|(k, v)| json!([value(p, *k), value(p, *v)])).collect::<Vec<_>>();
    match p.node(id) {
        Node::None => Value::Null,
        Node::Bool(b) => json!(b),
        Node::Int(i) => json!({ "int": i.to_string() }),
        Node::Big => json!("big"),
        Node::Float(f) => json!(f),
        Node::Text(t) => json!(t),
        Node::Bytes(b) => json!({ "bytes": b }),
        Node::Tuple(v) => json!({ "tuple": list(v) }),
        Node::List(v) => json!(list(v)),
        Node::Dict(v) => json!({ "dict": pairs(v) }),
        Node::Set(v) => json!({ "set": list(v) }),
        Node::Global { .. } => json!({ "global": p.global(id) }),
        Node::Call(c) => json!({
            "call": value(p, c.callee), "args": value(p, c.args), "state": c.state.map(|s| value(p, s)),
            "entries": pairs(&c.entries), "elements": list(&c.elements),
        }),
        Node::Persistent(i) => json!({ "persistent": value(p, *i) }),
    }
}

fn python(code: &str) -> Vec<u8> {
    let out = Command::new("python3").args(["-c", code]).output().expect("python3 starts");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).unwrap();
    let digits: Vec<u32> = text.trim().chars().map(|c| c.to_digit(16).unwrap()).collect();
    digits.chunks_exact(2).map(|d| (d[0] * 16 + d[1]) as u8).collect()
}

#[test]
fn every_protocol_gives_the_pickled_value() {
    for protocol in 0..=5 {
        let bytes = python(&format!(
            "import pickle\nshared = ['x\\u20ac\\n\\\\', '']\nvalue = [None, True, False, 0, 255, 65535, -1, \
             2**31, -2**40, 2**100, -2**126, 2**200, 0.1, -1e300, 'tab\\t', '\\u00e9\\U0001f600', (), (1,), \
             (1, 2), (1, 2, 3), (1, 2, 3, 4), [], {{}}, {{'a': 1, 2: [3]}}, shared, shared]\n\
             print(pickle.dumps(value, protocol={protocol}).hex())"
        ));
        let p = Pickle::read(&bytes).unwrap();
        let int = |i: i128| json!({ "int": i.to_string() });
        let tuple = |n: i128| json!({ "tuple": (1..=n).map(int).collect::<Vec<_>>() });
        let shared = json!(["x\u{20ac}\n\\", ""]);
        let dict = json!({ "dict": [["a", int(1)], [int(2), [int(3)]]] });
        let expected = json!([
            null, true, false, int(0), int(255), int(65535), int(-1), int(1 << 31), int(-(1 << 40)),
            int(1 << 100), int(-(1 << 126)), "big", 0.1, -1e300, "tab\t", "\u{e9}\u{1f600}", tuple(0),
            tuple(1), tuple(2), tuple(3), tuple(4), [], { "dict": [] }, dict, shared, shared
        ]);
        assert_eq!(value(&p, p.root()), expected, "protocol {protocol}");
        assert_eq!(p.end(), bytes.len());
        let all = p.elements(p.root()).unwrap();
        assert_eq!(all[all.len() - 1], all[all.len() - 2], "shared values are one");
    }
}

#[test]
fn objects_are_records() {
    for protocol in 2..=5 {
        let bytes = python(&format!(
            "import pickle, collections, argparse\nd = collections.OrderedDict(a=1)\n\
             value = (d, argparse.Namespace(size=16), {{7}}, b'\\xff', collections.OrderedDict)\n\
             print(pickle.dumps(value, protocol={protocol}).hex())"
        ));
        let p = Pickle::read(&bytes).unwrap();
        let [ordered, namespace, set, data, class] = *p.elements(p.root()).unwrap() else { panic!() };
        assert_eq!(p.get(ordered, "a").and_then(|i| p.int(i)), Some(1));
        let call = p.call(namespace).unwrap();
        assert_eq!(p.global(call.callee), Some(("argparse", "Namespace")));
        assert_eq!(p.get(call.state.unwrap(), "size").and_then(|i| p.int(i)), Some(16));
        assert_eq!(p.global(class), Some(("collections", "OrderedDict")));
        if protocol >= 4 {
            assert_eq!(value(&p, set), json!({ "set": [{ "int": "7" }] }));
        }
        if protocol >= 3 {
            assert_eq!(value(&p, data), json!({ "bytes": [255] }));
        } else {
            assert_eq!(p.called(data).unwrap().0, ("_codecs", "encode"));
        }
    }
}

#[test]
fn what_only_python_2_wrote() {
    let p = Pickle::read(
        b"(S'a\\x41\\n\\\\'\nI01\nI-7\nL12L\nF2.5\nT\x02\0\0\0xyU\x01z(i__main__\nC\n(c__main__\nD\no\
        t.",
    )
    .unwrap();
    let all = p.elements(p.root()).unwrap();
    assert_eq!(p.text(all[0]), Some("aA\n\\"));
    assert!(matches!(p.node(all[1]), Node::Bool(true)));
    assert_eq!((p.int(all[2]), p.int(all[3])), (Some(-7), Some(12)));
    assert!(matches!(p.node(all[4]), Node::Float(f) if *f == 2.5));
    assert_eq!((p.text(all[5]), p.text(all[6])), (Some("xy"), Some("z")));
    assert_eq!(p.called(all[7]).unwrap().0, ("__main__", "C"));
    assert_eq!(p.called(all[8]).unwrap().0, ("__main__", "D"));
}

#[test]
fn damage_is_named_with_its_offset() {
    let cases: [(&[u8], &str); 16] = [
        (b"", "byte 0: cut short"),
        (b"\x80\x04", "byte 2: cut short"),
        (b"\x80\x09N.", "protocol 9"),
        (b"\xff", "unknown opcode 0xff"),
        (b".", "the stack is empty"),
        (b"N(.", "byte 2: the stack is empty"),
        (b"t.", "no mark"),
        (b"h\x05.", "memo 5 was never set"),
        (b"X\xff\xff\xff\xffabc", "4294967295 bytes expected, 3 left"),
        (b"\x8e\xff\xff\xff\xff\xff\xff\xff\xffabc", "bytes expected, 3 left"),
        (b"\x95\xff\xff\xff\xff\xff\xff\xff\x7f.", "bytes expected, 1 left"),
        (b"T\xff\xff\xff\xff", "length -1 is negative"),
        (b"}Na.", "cannot append to a dict"),
        (b"](NNu.", "cannot set keys of a list"),
        (b"}(Nu.", "expected an even number"),
        (b"NN\x93.", "must be texts"),
    ];
    for (bytes, message) in cases {
        let e = Pickle::read(bytes).expect_err(message).to_string();
        assert!(e.contains(message), "{bytes:?}: {e}, expected {message}");
    }
}

#[test]
fn depth_sharing_and_cycles_cost_nothing() {
    let mut deep = vec![b')'];
    deep.extend(std::iter::repeat_n(0x85, 1_000_000));
    deep.push(b'.');
    assert!(Pickle::read(&deep).is_ok());
    // (x, x) of (x, x) of .., two to the power of a thousand values.
    let mut wide = vec![b')'];
    wide.extend(b"2\x86".repeat(1000));
    wide.push(b'.');
    assert_eq!(Pickle::read(&wide).unwrap().nodes.len(), 3 + 1 + 1000);
    // A list that holds itself.
    assert!(Pickle::read(b"]q\0h\0a.").is_ok());
    let many = b"N".repeat(MAX_OPCODES + 1);
    assert!(Pickle::read(&many).unwrap_err().to_string().contains("opcodes"));
}
