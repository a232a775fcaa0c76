use super::*;
use crate::constant::float_tensor;

/// `y = Relu(x + w)`, as old exporters wrote it: IR version 3, the constant listed among the inputs.
fn old_style() -> ModelProto {
    let node = |op: &str, input: &[&str], output: &str| NodeProto {
        op_type: Some(op.into()),
        input: input.iter().map(|s| (*s).into()).collect(),
        output: vec![output.into()],
        ..Default::default()
    };
    ModelProto {
        ir_version: Some(3),
        opset_import: vec![proto::OperatorSetIdProto { domain: Some(String::new()), version: Some(9) }],
        graph: Some(GraphProto {
            node: vec![node("Add", &["x", "w"], "s"), node("Relu", &["s"], "y")],
            initializer: vec![float_tensor("w", &[1, 2], &[1.0, -5.0])],
            input: vec![value_info("x", 1, Some(&[1, 2])), value_info("w", 1, Some(&[1, 2]))],
            output: vec![value_info("y", 1, Some(&[1, 2]))],
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn folder(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("shiftlens-onnx-graph-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    path
}

#[test]
fn old_models_are_normalised_and_run() {
    let model = Model::from_bytes(&old_style().encode_to_vec(), "old.onnx", None).unwrap();
    assert_eq!(model.inputs().iter().map(|i| i.name.as_str()).collect::<Vec<_>>(), ["x"]);
    assert_eq!((model.proto().ir_version, model.opset()), (Some(4), 9));
    let mut session =
        crate::backend::Session::new(&model.to_bytes().unwrap(), &["y".into()], Some(1), "old.onnx").unwrap();
    let y = session.run_floats(&[("x", &[1, 2], &[2.0, 3.0])]).unwrap();
    assert_eq!(y[0].as_slice(), [3.0, 0.0]);
}

#[test]
fn what_is_no_model_is_refused() {
    for bytes in [&b"plain text, no protobuf"[..], &[], &[0x08, 0x08]] {
        let e = Model::from_bytes(bytes, "a.onnx", None).unwrap_err().to_string();
        assert!(e.contains("a.onnx") && e.contains("not an ONNX model"), "{e}");
    }
    let e = Model::load("/nonexistent/model.onnx", None).unwrap_err();
    assert!(matches!(e, Error::Io { .. }), "{e}");
}

#[test]
fn the_checksum_is_checked_first() {
    let path = folder("sha").join("m.onnx");
    let bytes = old_style().encode_to_vec();
    std::fs::write(&path, &bytes).unwrap();
    let right = hex(&Sha256::digest(&bytes));
    assert!(Model::load(&path, Some(&right.to_uppercase())).is_ok());
    let e = Model::load(&path, Some("00ff")).unwrap_err().to_string();
    assert!(e.contains(&right) && e.contains("00ff"), "{e}");
    std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
}

#[test]
fn external_data_is_read_beside_the_model_only() {
    let folder = folder("external");
    let entry =
        |k: &str, v: &str| proto::StringStringEntryProto { key: Some(k.into()), value: Some(v.into()) };
    let external = |location: &str, length: &str| {
        let mut model = old_style();
        let t = &mut model.graph.as_mut().unwrap().initializer[0];
        t.raw_data = None;
        t.data_location = Some(proto::EXTERNAL);
        t.external_data = vec![entry("location", location), entry("offset", "4"), entry("length", length)];
        Model::from_bytes(&model.encode_to_vec(), "big.onnx", Some(&folder))
    };
    let values: Vec<u8> = [9.0f32, 1.0, -5.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    std::fs::write(folder.join("big.data"), values).unwrap();
    let model = external("big.data", "8").unwrap();
    let inside = Model::from_bytes(&old_style().encode_to_vec(), "big.onnx", None).unwrap();
    assert_eq!(model, inside);
    for (location, length, word) in [
        ("none.data", "8", "keep that file beside the model"),
        ("big.data", "12", "12 bytes expected at offset 4, 8 found"),
        ("../big.data", "8", "only files beside the model"),
        ("/etc/hostname", "8", "only files beside the model"),
        ("big.data", "many", "expected a number of bytes"),
    ] {
        let e = external(location, length).unwrap_err().to_string();
        assert!(e.contains(word) && e.contains("\"w\""), "{e}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_real_model_survives_a_round_trip_byte_for_byte() {
    for name in ["resnet_tiny", "regression"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/{name}.onnx"));
        let bytes = std::fs::read(&path).unwrap();
        assert!(ModelProto::decode(&bytes[..]).unwrap().encode_to_vec() == bytes, "{name}");
    }
}

#[test]
fn fixing_the_batch_forgets_shapes_that_no_longer_hold() {
    let mut model = Model::from_bytes(&old_style().encode_to_vec(), "m", None).unwrap();
    model.fix_input("x", &[5, 2]);
    assert_eq!(model.inputs()[0].dims, Some(vec![Dim::Fixed(5), Dim::Fixed(2)]));
    assert_eq!(model.outputs()[0].dims, None);
    assert_eq!(
        show_dims(&[Dim::Dynamic("batch".into()), Dim::Fixed(3), Dim::Dynamic(String::new())]),
        "[batch, 3, ?]"
    );
}
