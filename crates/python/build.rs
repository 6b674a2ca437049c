//! Reads the layout of interpreter structures from the headers of the Python built against.
//!
//! The switch saves and restores fields that no C API gives access to. Their offsets move between
//! micro releases, so they are not written down here: a small C file is compiled to assembly (not
//! run: that works for a foreign target too) against the internal headers, and the offsets are
//! read from the text. The version the headers belong to goes with them and is compared with the
//! running interpreter at import.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Fields wanted on each version: name of the Rust constant, C expression.
fn layout_of(minor: u8) -> Vec<(&'static str, &'static str)> {
    let mut wanted = vec![
        ("HEADER_VERSION", "PY_VERSION_HEX"),
        ("TS_EXC_INFO", "offsetof(PyThreadState, exc_info)"),
        ("TS_PROFILE_FUNC", "offsetof(PyThreadState, c_profilefunc)"),
        ("TS_TRACE_FUNC", "offsetof(PyThreadState, c_tracefunc)"),
        ("TS_CONTEXT", "offsetof(PyThreadState, context)"),
        ("TS_TRACE_OBJECT", "offsetof(PyThreadState, c_traceobj)"),
        ("TS_CONTEXT_VER", "offsetof(PyThreadState, context_ver)"),
        ("TS_DATASTACK_CHUNK", "offsetof(PyThreadState, datastack_chunk)"),
        ("TS_DATASTACK_TOP", "offsetof(PyThreadState, datastack_top)"),
        ("TS_DATASTACK_LIMIT", "offsetof(PyThreadState, datastack_limit)"),
        ("CHUNK_PREVIOUS", "offsetof(_PyStackChunk, previous)"),
        ("CHUNK_SIZE", "offsetof(_PyStackChunk, size)"),
        ("CHUNK_TOP", "offsetof(_PyStackChunk, top)"),
        ("CHUNK_DATA", "offsetof(_PyStackChunk, data)"),
        ("FRAME_PREVIOUS", "offsetof(_PyInterpreterFrame, previous)"),
        ("FRAME_FRAME_OBJ", "offsetof(_PyInterpreterFrame, frame_obj)"),
        ("FRAME_OWNER", "offsetof(_PyInterpreterFrame, owner)"),
        ("FRAME_LOCALSPLUS", "offsetof(_PyInterpreterFrame, localsplus)"),
        ("FRAME_OBJECT_F_FRAME", "offsetof(PyFrameObject, f_frame)"),
        ("FRAME_OBJECT_BACK", "offsetof(PyFrameObject, f_back)"),
        ("FRAME_OBJECT_DATA", "offsetof(PyFrameObject, _f_frame_data)"),
        ("CODE_NLOCALSPLUS", "offsetof(PyCodeObject, co_nlocalsplus)"),
        ("CODE_INSTRUCTIONS", "offsetof(PyCodeObject, co_code_adaptive)"),
        ("OWNED_BY_THREAD", "FRAME_OWNED_BY_THREAD"),
        ("OWNED_BY_GENERATOR", "FRAME_OWNED_BY_GENERATOR"),
        ("OWNED_BY_FRAME_OBJECT", "FRAME_OWNED_BY_FRAME_OBJECT"),
        ("TS_ASYNC_GEN_FIRSTITER", "offsetof(PyThreadState, async_gen_firstiter)"),
        ("TS_ASYNC_GEN_FINALIZER", "offsetof(PyThreadState, async_gen_finalizer)"),
        ("TS_COROUTINE_ORIGIN_DEPTH", "offsetof(PyThreadState, coroutine_origin_tracking_depth)"),
    ];
    // Where asyncio keeps the running loop and task, see src/pystate/asyncio.
    if minor < 13 {
        wanted.push(("DICT_VERSION", "offsetof(PyDictObject, ma_version_tag)"));
    } else {
        wanted.push((
            "TS_ASYNCIO_RUNNING_LOOP",
            "offsetof(_PyThreadStateImpl, asyncio_running_loop)",
        ));
    }
    if minor >= 14 {
        wanted.push((
            "TS_ASYNCIO_RUNNING_TASK",
            "offsetof(_PyThreadStateImpl, asyncio_running_task)",
        ));
    }
    wanted.push(match minor {
        11..=13 => ("FRAME_STACKTOP", "offsetof(_PyInterpreterFrame, stacktop)"),
        _ => ("FRAME_STACKPOINTER", "offsetof(_PyInterpreterFrame, stackpointer)"),
    });
    // The code that a frame runs, and where in it.
    if minor < 13 {
        wanted.push(("FRAME_CODE", "offsetof(_PyInterpreterFrame, f_code)"));
        wanted.push(("FRAME_INSTRUCTION", "offsetof(_PyInterpreterFrame, prev_instr)"));
    } else {
        wanted.push(("FRAME_CODE", "offsetof(_PyInterpreterFrame, f_executable)"));
        wanted.push(("FRAME_INSTRUCTION", "offsetof(_PyInterpreterFrame, instr_ptr)"));
    }
    match minor {
        11 => wanted.extend([
            ("TS_DICT", "offsetof(PyThreadState, dict)"),
            ("TS_ON_DELETE", "offsetof(PyThreadState, on_delete)"),
            ("TS_ON_DELETE_DATA", "offsetof(PyThreadState, on_delete_data)"),
            ("TS_CFRAME", "offsetof(PyThreadState, cframe)"),
            ("TS_ROOT_CFRAME", "offsetof(PyThreadState, root_cframe)"),
            ("TS_RECURSION_REMAINING", "offsetof(PyThreadState, recursion_remaining)"),
            ("TS_RECURSION_LIMIT", "offsetof(PyThreadState, recursion_limit)"),
            ("TS_TRASH_NESTING", "offsetof(PyThreadState, trash_delete_nesting)"),
            ("CFRAME_USE_TRACING", "offsetof(_PyCFrame, use_tracing)"),
            ("CFRAME_CURRENT_FRAME", "offsetof(_PyCFrame, current_frame)"),
            ("CFRAME_PREVIOUS", "offsetof(_PyCFrame, previous)"),
            ("CFRAME_SIZE", "sizeof(_PyCFrame)"),
        ]),
        12 => wanted.extend([
            ("TS_DICT", "offsetof(PyThreadState, dict)"),
            ("TS_ON_DELETE", "offsetof(PyThreadState, on_delete)"),
            ("TS_ON_DELETE_DATA", "offsetof(PyThreadState, on_delete_data)"),
            ("TS_CFRAME", "offsetof(PyThreadState, cframe)"),
            ("TS_ROOT_CFRAME", "offsetof(PyThreadState, root_cframe)"),
            ("TS_RECURSION_REMAINING", "offsetof(PyThreadState, py_recursion_remaining)"),
            ("TS_RECURSION_LIMIT", "offsetof(PyThreadState, py_recursion_limit)"),
            ("TS_C_RECURSION_REMAINING", "offsetof(PyThreadState, c_recursion_remaining)"),
            ("C_RECURSION_LIMIT", "C_RECURSION_LIMIT"),
            ("TS_TRASH_NESTING", "offsetof(PyThreadState, trash.delete_nesting)"),
            ("CFRAME_CURRENT_FRAME", "offsetof(_PyCFrame, current_frame)"),
            ("CFRAME_PREVIOUS", "offsetof(_PyCFrame, previous)"),
            ("CFRAME_SIZE", "sizeof(_PyCFrame)"),
        ]),
        13 => wanted.extend([
            ("TS_CURRENT_FRAME", "offsetof(PyThreadState, current_frame)"),
            ("TS_RECURSION_REMAINING", "offsetof(PyThreadState, py_recursion_remaining)"),
            ("TS_RECURSION_LIMIT", "offsetof(PyThreadState, py_recursion_limit)"),
            ("TS_C_RECURSION_REMAINING", "offsetof(PyThreadState, c_recursion_remaining)"),
            ("C_RECURSION_LIMIT", "Py_C_RECURSION_LIMIT"),
            ("TS_CRITICAL_SECTION", "offsetof(PyThreadState, critical_section)"),
        ]),
        14 | 15 => {
            wanted.extend([
                ("TS_CURRENT_FRAME", "offsetof(PyThreadState, current_frame)"),
                ("TS_CURRENT_EXECUTOR", "offsetof(PyThreadState, current_executor)"),
                ("TS_RECURSION_REMAINING", "offsetof(PyThreadState, py_recursion_remaining)"),
                ("TS_RECURSION_LIMIT", "offsetof(PyThreadState, py_recursion_limit)"),
                ("TS_CRITICAL_SECTION", "offsetof(PyThreadState, critical_section)"),
                ("TS_C_STACK_TOP", "offsetof(_PyThreadStateImpl, c_stack_top)"),
                ("TS_C_STACK_SOFT_LIMIT", "offsetof(_PyThreadStateImpl, c_stack_soft_limit)"),
                ("TS_C_STACK_HARD_LIMIT", "offsetof(_PyThreadStateImpl, c_stack_hard_limit)"),
                ("C_STACK_MARGIN", "_PyOS_STACK_MARGIN_BYTES"),
                ("STACKREF_TAG_BITS", "Py_TAG_BITS"),
            ]);
            if minor == 15 {
                wanted.extend([
                    ("TS_EVAL_BREAKER", "offsetof(PyThreadState, eval_breaker)"),
                    ("EVAL_EVENTS_MASK", "_PY_EVAL_EVENTS_MASK"),
                    ("TS_BASE_FRAME", "offsetof(PyThreadState, base_frame)"),
                    ("TS_LAST_PROFILED_FRAME", "offsetof(PyThreadState, last_profiled_frame)"),
                    (
                        "TS_GENERATOR_RETURN_KIND",
                        "offsetof(_PyThreadStateImpl, generator_return_kind)",
                    ),
                ]);
            }
        }
        other => panic!(
            "greenloop supports CPython 3.11 to 3.15; the build found 3.{other}. \
             Its thread state layout is not known: add crates/python/src/pystate/v3_{other}.rs"
        ),
    }
    wanted
}

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    pyo3_build_config::use_pyo3_cfgs();
    println!(
        "cargo:rustc-check-cfg=cfg(cpython, values(\"3.11\", \"3.12\", \"3.13\", \"3.14\", \"3.15\"))"
    );

    let config = pyo3_build_config::get();
    let python = config.executable().expect("the build needs a Python interpreter to build for");
    println!("cargo:rerun-if-changed={python}");
    let minor = config.target_abi().version().minor;
    println!("cargo:rustc-cfg=cpython=\"3.{minor}\"");

    let include = query(python, "import sysconfig; print(sysconfig.get_path('include'))");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let wanted = layout_of(minor);
    let values = read_layout(&out, Path::new(&include), &wanted);

    let mut text = String::new();
    for (name, value) in values {
        writeln!(text, "pub const {name}: usize = {value};").expect("writing to a String");
    }
    fs::write(out.join("layout.rs"), text).expect("OUT_DIR is writable");
}

fn query(python: &str, code: &str) -> String {
    let output = Command::new(python).args(["-c", code]).output().expect("the interpreter runs");
    assert!(output.status.success(), "{python} -c {code:?} failed");
    String::from_utf8(output.stdout).expect("paths are UTF-8").trim().to_owned()
}

/// Compiles the wanted expressions as immediate operands and finds them in the assembly.
fn read_layout(out: &Path, include: &Path, wanted: &[(&str, &str)]) -> Vec<(String, u64)> {
    let mut source = String::from(
        "#define Py_BUILD_CORE 1\n\
         #include <Python.h>\n\
         #include <stddef.h>\n\
         #include \"internal/pycore_frame.h\"\n\
         #if PY_VERSION_HEX >= 0x030d0000\n\
         #include \"internal/pycore_tstate.h\"\n\
         #endif\n\
         #if PY_VERSION_HEX >= 0x030e0000\n\
         #include \"internal/pycore_interpframe_structs.h\"\n\
         #include \"internal/pycore_ceval.h\"\n\
         #include \"internal/pycore_stackref.h\"\n\
         #include \"internal/pycore_pythonrun.h\"\n\
         #endif\n\
         void layout(void) {\n",
    );
    for (name, expression) in wanted {
        writeln!(
            source,
            "    __asm__ volatile(\"\\n@layout {name} %c0\" : : \"i\"((long)({expression})));"
        )
        .expect("writing to a String");
    }
    source.push_str("}\n");
    let file = out.join("layout.c");
    fs::write(&file, source).expect("OUT_DIR is writable");

    let output = cc::Build::new()
        .get_compiler()
        .to_command()
        .args(["-S", "-w", "-o", "-"])
        .arg("-I")
        .arg(include)
        .arg("-I")
        .arg(include.join("internal"))
        .arg(&file)
        .output()
        .expect("a C compiler is there (cc)");
    assert!(
        output.status.success(),
        "compiling against the headers in {} failed:\n{}",
        include.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    let assembly = String::from_utf8_lossy(&output.stdout);
    let found: Vec<(String, u64)> = assembly
        .lines()
        .filter_map(|line| line.trim().strip_prefix("@layout "))
        .map(|line| {
            let (name, value) = line.split_once(' ').expect("name and value");
            (name.to_owned(), value.trim_start_matches(['$', '#']).parse().expect("a number"))
        })
        .collect();
    assert_eq!(found.len(), wanted.len(), "an offset is missing from the compiler's output");
    found
}
