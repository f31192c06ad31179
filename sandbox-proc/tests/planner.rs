//! The loop with a scripted brain: what reaches the broker, what comes back to the brain. This test plays the broker.

mod rig;

use rig::guests::component;
use rig::{Ran, Template, compile, program};
use serde_json::{Value, json};
use std::sync::LazyLock;
use warden_proto::blob::{Body, Inbox, parts};
use warden_proto::msg::error::{CallError, ErrorCode};
use warden_proto::msg::fs::{Entry, EntryKind, FsCall, FsReply, GuestTarget};
use warden_proto::msg::llm::{Conversation, LlmReply, TokenUsage};
use warden_proto::msg::loops::{LoopCall, LoopReply};
use warden_proto::msg::policy::{PolicyCall, PolicyReply};
use warden_proto::msg::proc::{Exit, ProcCall, ProcReply, Stream, Toll};
use warden_proto::msg::worker::{End, GuestKind, Origin, WorkerCall, WorkerReply, WorkerSetup};
use warden_proto::{Bytes, Kind, List, Text, codec};

static PROBE: LazyLock<Vec<u8>> = LazyLock::new(|| compile(&component("control_probe"), false).unwrap());

/// A template, with the brain compiled: a worker waits two seconds for its setup and no longer.
fn warm() -> Template {
    LazyLock::force(&PROBE);
    Template::start()
}

fn planner(script: &Value) -> WorkerSetup {
    let guest = GuestKind::Planner {
        task: Text::new(json!({"script": script}).to_string()).unwrap(),
        observation: Text::cut(r#"{"given":1}"#),
        first_step: 5,
    };
    WorkerSetup { guest, ..program() }
}

/// A broker that answers the loop, and everything else by `answer`; it keeps what it was told.
struct Broker<'a> {
    answer: &'a mut dyn FnMut(WorkerCall, &mut Inbox) -> Result<WorkerReply, CallError>,
    turns: Vec<LoopCall>,
    verdicts: Vec<LoopReply>,
    steps_left: u32,
    outcome: Value,
}

impl Broker<'_> {
    fn reply(&mut self, call: WorkerCall, inbox: &mut Inbox) -> WorkerReply {
        let WorkerCall::Loop { call } = call else {
            return (self.answer)(call, inbox).unwrap_or_else(WorkerReply::Error);
        };
        self.turns.push(call.clone());
        match call {
            LoopCall::BeginStep if self.steps_left == 0 => {
                WorkerReply::Error(CallError::new(ErrorCode::Limit, "no steps are left"))
            }
            LoopCall::BeginStep => {
                self.steps_left -= 1;
                WorkerReply::Loop(LoopReply::Proceed)
            }
            LoopCall::Complete { outcome, .. } => {
                let outcome = inbox.take(outcome).unwrap();
                self.outcome = serde_json::from_slice(&outcome).unwrap_or(Value::Null);
                let ended = LoopReply::Verdict { ended: true, unmet: List::default() };
                WorkerReply::Loop(if self.verdicts.is_empty() { ended } else { self.verdicts.remove(0) })
            }
            _ => WorkerReply::Loop(LoopReply::Proceed),
        }
    }
}

struct Played {
    ran: Ran,
    turns: Vec<LoopCall>,
    results: Vec<Value>,
}

fn play_with(
    script: Value,
    verdicts: Vec<LoopReply>,
    answer: &mut dyn FnMut(WorkerCall, &mut Inbox) -> Result<WorkerReply, CallError>,
) -> Played {
    let template = warm();
    let mut worker = template.fork();
    worker.begin(&planner(&script), &PROBE);
    let mut broker = Broker { answer, turns: Vec::new(), verdicts, steps_left: 10, outcome: Value::Null };
    let ran = worker.serve(&mut |call, inbox| broker.reply(call, inbox));
    let results = broker.outcome["results"].as_array().cloned().unwrap_or_default();
    Played { ran, turns: broker.turns, results }
}

fn play(script: Value, answer: &mut dyn FnMut(WorkerCall) -> Result<WorkerReply, CallError>) -> Played {
    play_with(script, Vec::new(), &mut |call, _| answer(call))
}

fn nothing(call: WorkerCall) -> Result<WorkerReply, CallError> {
    panic!("no such call was expected: {call:?}")
}

fn inline(text: &str) -> Body {
    Body::Inline { bytes: Bytes::new(text.as_bytes()).unwrap() }
}

fn path(call: &str) -> GuestTarget {
    GuestTarget::Path { path: Text::cut(call) }
}

#[test]
fn a_plan_becomes_typed_calls_and_their_results_an_observation() {
    let script = json!([{"op": "plan", "thought": "look", "actions": [
        {"capability": "fs.read_file", "input": {"path": "repo:a.txt", "max_bytes": 10}},
        {"capability": "fs.read_file", "input": {"path": "/etc/passwd"}},
        {"capability": "fs.read_file", "input": {"path": 7}},
        {"capability": "no.such", "input_text": "no json"},
        {"capability": "browser.open_session", "input": {"alias": "x"}},
        {"capability": "proc.spawn", "input": {"command": "git", "args": ["status"]}},
    ]}]);
    let mut calls = Vec::new();
    let played = play(script, &mut |call| {
        calls.push(call.clone());
        match call {
            WorkerCall::Fs { call: FsCall::ReadFile { target, .. }, .. } if target == path("repo:a.txt") => {
                Ok(WorkerReply::Fs(FsReply::Content { contents: inline("hello"), truncated: true }))
            }
            WorkerCall::Fs { .. } => Err(CallError::denied("user:fs.default-deny", "outside every workspace")),
            WorkerCall::Proc { .. } => Ok(WorkerReply::Proc(ProcReply::Ran {
                exit: Exit { code: Some(0), signal: None, timed_out: false },
                stdout: inline("clean"),
                stderr: inline(""),
                truncated: false,
                degraded: List::default(),
                toll: Toll::default(),
            })),
            _ => Err(CallError::new(ErrorCode::Unavailable, "it is off")),
        }
    });
    assert_eq!(played.ran.end(), &End::Returned);
    let first = WorkerCall::Fs {
        origin: Origin::Action,
        base64: false,
        call: FsCall::ReadFile { target: path("repo:a.txt"), offset: 0, max_bytes: 10 },
    };
    assert_eq!(calls[0], first);
    assert!(
        matches!(&calls[2], WorkerCall::Absent { origin: Origin::Action, capability } if &**capability == "browser.open_session")
    );
    assert!(matches!(&played.turns[0], LoopCall::BeginStep));
    assert!(matches!(&played.turns[1], LoopCall::Plan { thought } if &**thought == "look"));
    assert!(matches!(&played.turns[2], LoopCall::BadAction { capability, error }
        if &**capability == "fs.read_file" && error.code == ErrorCode::InvalidArgument));
    assert!(matches!(&played.turns[3], LoopCall::BadAction { capability, .. } if &**capability == "no.such"));
    let observed = &played.results[0]["ok"];
    assert_eq!(observed["step"], 6);
    assert_eq!(observed["summary"], "executed 6 action(s) with 4 failure(s)");
    let actions = &observed["data"]["actions"];
    let output = json!({"path": "repo:a.txt", "truncated": true, "encoding": "utf-8", "contents": "hello"});
    assert_eq!(actions[0], json!({"capability": "fs.read_file", "success": true, "output": output, "error": null}));
    assert_eq!(actions[1]["error"]["code"], "denied");
    assert_eq!(actions[1]["error"]["rule"], "user:fs.default-deny");
    assert_eq!(actions[4]["error"]["code"], "unavailable");
    assert_eq!((&actions[5]["output"]["stdout"], &actions[5]["output"]["status"]), (&json!("clean"), &json!(0)));
}

#[test]
fn the_first_observation_is_what_was_given() {
    let played = play(json!([{"op": "observation"}]), &mut nothing);
    assert_eq!(played.results[0]["ok"], json!({"step": 5, "summary": "start", "data": {"given": 1}}));
}

#[test]
fn imports_are_typed_calls_and_denials_arrive_whole() {
    let script = json!([
        {"op": "fs.open_workspace", "as": "root"},
        {"op": "fs.open_file", "dir": "root", "path": "a.txt", "options": {"read": true}, "as": "f"},
        {"op": "fs.read", "file": "f", "max_bytes": 100},
        {"op": "fs.open_dir", "dir": "root", "path": "sub", "as": "sub"},
        {"op": "fs.metadata", "dir": "sub", "path": "x"},
        {"op": "fs.remove_file", "dir": "sub", "path": "x"},
        {"op": "fs.close_file", "file": "f"},
        {"op": "fs.read", "file": "f", "max_bytes": 100},
        {"op": "browser.open_session"},
        {"op": "input.mouse_click"},
        {"op": "drop", "handle": "sub"},
    ]);
    let mut seen = Vec::new();
    let mut reads = 0;
    let played = play(script, &mut |call| {
        seen.push(format!("{call:?}"));
        match call {
            WorkerCall::Fs { origin: Origin::Import, call, .. } => match call {
                FsCall::OpenDir { target } if target == path("") => {
                    Ok(WorkerReply::Fs(FsReply::Opened { handle: 1, size_bytes: 0 }))
                }
                FsCall::OpenFile { target, .. } if target == path("a.txt") => {
                    Ok(WorkerReply::Fs(FsReply::Opened { handle: 2, size_bytes: 3 }))
                }
                FsCall::OpenDir { target } if target == path("sub") => {
                    Ok(WorkerReply::Fs(FsReply::Opened { handle: 3, size_bytes: 0 }))
                }
                FsCall::Read { file: 2, max_bytes } => {
                    reads += 1;
                    assert_eq!(max_bytes, if reads == 1 { 100 } else { 97 });
                    let bytes = Bytes::new(if reads == 1 { &b"abc"[..] } else { b"" }).unwrap();
                    Ok(WorkerReply::Fs(FsReply::Data { bytes }))
                }
                FsCall::Metadata { target: GuestTarget::At { dir: 3, .. } } => {
                    let entry = Entry {
                        name: Text::cut("x"),
                        kind: EntryKind::File,
                        size_bytes: Some(9),
                        modified_ms: None,
                        readonly: true,
                    };
                    Ok(WorkerReply::Fs(FsReply::Metadata { entry }))
                }
                FsCall::RemoveFile { target: GuestTarget::At { dir: 3, .. } } => {
                    Err(CallError::denied("user:fs.workspace.repo.deny[0]", "denied"))
                }
                FsCall::Close { .. } => Ok(WorkerReply::Fs(FsReply::Closed { size_bytes: None, sha256: None })),
                other => panic!("{other:?}"),
            },
            WorkerCall::Absent { origin: Origin::Import, .. } => {
                Err(CallError::new(ErrorCode::Unavailable, "not here"))
            }
            other => panic!("{other:?}"),
        }
    });
    assert_eq!(played.ran.end(), &End::Returned, "{seen:#?}");
    assert_eq!(played.results[2]["ok"], json!({"len": 3, "text": "abc"}));
    assert_eq!(played.results[4]["ok"]["readonly"], true);
    let denied = &played.results[5]["error"];
    assert_eq!(
        (&denied["code"], &denied["detail"]),
        (&json!("denied"), &json!(r#"{"rule":"user:fs.workspace.repo.deny[0]"}"#))
    );
    assert_eq!(played.results[7]["error"]["code"], "not-found", "a closed handle is closed");
    assert_eq!(played.results[8]["error"]["code"], "unavailable");
    assert_eq!(played.results[9]["error"]["code"], "unavailable");
    let count = |what: &str| seen.iter().filter(|call| call.contains(what)).count();
    assert_eq!(count("Close { handle: 2 }"), 1, "closed once");
    assert_eq!(count("Close { handle: 3 }"), 1, "dropping a handle closes it");
    assert_eq!(count("browser.open_session") + count("input.mouse_click"), 2);
}

#[test]
fn payloads_longer_than_a_frame_go_in_parts_both_ways() {
    let long = "x".repeat(200_000);
    let script = json!([{"op": "plan", "actions": [
        {"capability": "fs.write_file", "input": {"path": "a", "contents": long}},
        {"capability": "fs.read_file", "input": {"path": "a", "max_bytes": 300_000}},
    ]}]);
    let template = warm();
    let mut worker = template.fork();
    worker.begin(&planner(&script), &PROBE);
    // Parts of the reply go out ahead of it, on the broker's end of the same link.
    let fd = std::os::fd::AsFd::as_fd(&worker.link).try_clone_to_owned().unwrap();
    let mut side = warden_proto::FrameSocket::new(fd);
    let mut written = Vec::new();
    let mut answer = |call: WorkerCall, inbox: &mut Inbox| match call {
        WorkerCall::Fs { call: FsCall::WriteFile { contents, .. }, .. } => {
            written = inbox.take(contents).unwrap();
            Ok(WorkerReply::Fs(FsReply::Written { bytes: 200_000, grown: 200_000 }))
        }
        WorkerCall::Fs { call: FsCall::ReadFile { max_bytes: 300_000, .. }, .. } => {
            for part in parts(9, &written) {
                side.send(Kind::Part, 0, &part.unwrap(), &[], true).unwrap();
            }
            let contents = Body::Sent { blob: 9, len: 200_000 };
            Ok(WorkerReply::Fs(FsReply::Content { contents, truncated: false }))
        }
        other => panic!("{other:?}"),
    };
    let mut broker =
        Broker { answer: &mut answer, turns: Vec::new(), verdicts: Vec::new(), steps_left: 9, outcome: Value::Null };
    let ran = worker.serve(&mut |call, inbox| broker.reply(call, inbox));
    assert_eq!(ran.end(), &End::Returned);
    let actions = broker.outcome["results"][0]["ok"]["data"]["actions"].clone();
    assert_eq!(actions[0]["output"]["bytes_written"], 200_000);
    let seen = actions[1]["output"]["contents"].as_str().unwrap();
    assert!(
        seen.ends_with("[cut: 167232 bytes more]"),
        "the brain is shown a part and told so: {}",
        &seen[seen.len() - 60..]
    );
    assert_eq!(written, long.as_bytes());
}

#[test]
fn a_listing_is_put_together_from_its_pages() {
    let script = json!([{"op": "plan", "actions": [{"capability": "fs.list_dir"}]}]);
    let entry = |name: String| Entry {
        name: Text::cut(&name),
        kind: EntryKind::File,
        size_bytes: Some(1),
        modified_ms: None,
        readonly: false,
    };
    let played = play(script, &mut |call| match call {
        WorkerCall::Fs { call: FsCall::ListDir { after, .. }, .. } => {
            let entries = List::first((after..after + 100).map(|n| entry(format!("f{n}"))));
            let next = if after < 200 { after + 100 } else { 0 };
            Ok(WorkerReply::Fs(FsReply::Entries { entries, next, total: 300 }))
        }
        other => panic!("{other:?}"),
    });
    let output = &played.results[0]["ok"]["data"]["actions"][0]["output"];
    assert_eq!((&output["truncated"], &output["total"]), (&json!(false), &json!(300)));
    let entries = output["entries"].as_array().unwrap().clone();
    assert_eq!((entries.len(), &entries[299]["name"]), (300, &json!("f299")));
}

#[test]
fn aliases_live_and_end() {
    let start = json!({"capability": "proc.start", "input": {"command": "cat", "alias": "p"}});
    let script = json!([{"op": "plan", "actions": [
        start, start,
        {"capability": "proc.write_stdin", "input": {"process": "p", "data": "hi", "eof": true}},
        {"capability": "proc.wait", "input": {"process": "p"}},
        {"capability": "proc.read", "input": {"process": "p", "stream": "stdout"}},
        {"capability": "proc.read", "input": {"process": "p", "stream": "stdout"}},
        {"capability": "proc.signal", "input": {"process": "p", "signal": "kill"}},
        {"capability": "proc.wait", "input": {"process": "q"}},
    ]}]);
    let played = play(script, &mut |call| match call {
        WorkerCall::Proc { origin: Origin::Action, alias, call } => {
            assert_eq!(&*alias, "p");
            Ok(WorkerReply::Proc(match call {
                ProcCall::Start { .. } => ProcReply::Started { process: 4, degraded: List::default() },
                ProcCall::WriteStdin { process: 4, eof: true, .. } => ProcReply::Accepted { bytes: 2 },
                ProcCall::Wait { process: 4, .. } => ProcReply::Exited {
                    exit: Exit { code: Some(0), signal: None, timed_out: false },
                    toll: Toll::default(),
                },
                ProcCall::Read { process: 4, stream: Stream::Stdout, max_bytes: 4096 } => {
                    ProcReply::Data { bytes: Bytes::new(&b"hi"[..]).unwrap(), eof: true }
                }
                other => panic!("{other:?}"),
            }))
        }
        other => panic!("{other:?}"),
    });
    let actions = played.results[0]["ok"]["data"]["actions"].clone();
    let codes: Vec<&str> = (0..8).map(|n| actions[n]["error"]["code"].as_str().unwrap_or("ok")).collect();
    assert_eq!(codes, ["ok", "conflict", "ok", "ok", "ok", "not-found", "not-found", "not-found"]);
    assert_eq!(actions[4]["output"]["data"], "hi");
}

#[test]
fn the_model_is_asked_and_answers() {
    let script = json!([
        {"op": "llm.complete", "messages": [["system", "be brief"], ["user", "hi"]], "max_tokens": 5},
        {"op": "llm.call_tools", "messages": [["user", "hi"]]},
        {"op": "policy.describe"},
        {"op": "policy.log_event", "event_type": "note", "payload": "{}"},
    ]);
    let mut conversations = Vec::new();
    let played = play_with(script, Vec::new(), &mut |call, inbox| match call {
        WorkerCall::Llm { origin: Origin::Import, call } => {
            let conversation: Conversation = codec::decode_document(&inbox.take(call.conversation).unwrap()).unwrap();
            conversations.push((
                conversation.messages.len(),
                conversation.tools.len(),
                call.tools,
                call.options.max_tokens,
            ));
            let usage = Some(TokenUsage { prompt_tokens: 1, completion_tokens: 2, total_tokens: 3 });
            Ok(WorkerReply::Llm(LlmReply {
                content: inline("[]"),
                finish_reason: Some(Text::cut("stop")),
                usage,
                mismatch: None,
            }))
        }
        WorkerCall::Policy { call: PolicyCall::Describe, .. } => Ok(WorkerReply::Policy(PolicyReply::Snapshot {
            workspaces: List::default(),
            commands: List::default(),
            budgets: List::default(),
        })),
        WorkerCall::Policy { call: PolicyCall::LogEvent { .. }, .. } => Ok(WorkerReply::Policy(PolicyReply::Logged)),
        other => panic!("{other:?}"),
    });
    assert_eq!(conversations, [(2, 0, false, Some(5)), (1, 1, true, None)]);
    assert!(played.results.iter().all(|result| result.get("ok").is_some()), "{:?}", played.results);
    assert_eq!(played.results.len(), 4);
}

#[test]
fn completion_is_the_brokers_word() {
    let unmet = LoopReply::Verdict { ended: false, unmet: List::first([Text::cut("file repo:S exists")]) };
    let script = json!([{"op": "plan", "actions": []}]);
    let played = play_with(script, vec![unmet], &mut |call, _| panic!("{call:?}"));
    assert_eq!(played.ran.end(), &End::Returned);
    let claims = played.turns.iter().filter(|turn| matches!(turn, LoopCall::Complete { .. })).count();
    assert_eq!(claims, 2, "not accepted once, so claimed again");
}

#[test]
fn a_brain_out_of_steps_is_stopped() {
    let unmet = || LoopReply::Verdict { ended: false, unmet: List::default() };
    let played = play_with(json!([]), (0..50).map(|_| unmet()).collect(), &mut |call, _| panic!("{call:?}"));
    assert!(
        matches!(played.ran.end(), End::Stopped { message } if message.contains("no steps are left")),
        "{:?}",
        played.ran
    );
    assert_eq!(played.turns.iter().filter(|turn| matches!(turn, LoopCall::BeginStep)).count(), 11);
}

#[test]
fn a_brain_without_a_plan_tries_again_in_a_step_of_its_own() {
    let fail = json!({"op": "fail", "retryable": true, "message": "again"});
    let played = play(json!([fail, fail, fail]), &mut nothing);
    assert_eq!(played.ran.end(), &End::Returned);
    let begun = played.turns.iter().filter(|turn| matches!(turn, LoopCall::BeginStep)).count();
    assert_eq!(begun, 4, "three without a plan, and the one that completes");
    // How often is the broker's to say.
    let played = play(json!(vec![fail; 20]), &mut nothing);
    assert!(
        matches!(played.ran.end(), End::Stopped { message } if message.contains("no steps are left")),
        "{:?}",
        played.ran
    );
    let played = play(json!([{"op": "fail", "retryable": false, "message": "final"}]), &mut nothing);
    assert!(matches!(played.ran.end(), End::Stopped { message } if message.contains("final")));
}

#[test]
fn misbehaviour_ends_the_brain_alone() {
    let template = warm();
    let run = |op: Value, wall_ms| {
        let mut worker = template.fork();
        worker.begin(&WorkerSetup { wall_ms, ..planner(&json!([op])) }, &PROBE);
        let mut broker = Broker {
            answer: &mut |call, _| panic!("{call:?}"),
            turns: Vec::new(),
            verdicts: Vec::new(),
            steps_left: 10,
            outcome: Value::Null,
        };
        worker.serve(&mut |call, inbox| broker.reply(call, inbox)).finish.end
    };
    assert_eq!(run(json!({"op": "spin"}), 200), End::OutOfTime);
    assert!(matches!(run(json!({"op": "trap"}), 10_000), End::Trapped { .. }));
    assert!(matches!(run(json!({"op": "recurse"}), 10_000), End::Trapped { .. }));
    assert!(matches!(run(json!({"op": "alloc_abort"}), 10_000), End::OutOfMemory { .. }));
    assert_eq!(run(json!({"op": "alloc"}), 10_000), End::Returned, "refused memory is no death");
    assert!(matches!(run(json!({"op": "big_result", "len": 2_000_000}), 10_000), End::Stopped { .. }));
}

#[test]
fn a_silent_broker_does_not_hold_a_worker_beyond_its_time() {
    let template = warm();
    let mut worker = template.fork();
    worker.begin(&WorkerSetup { wall_ms: 300, ..planner(&json!([])) }, &PROBE);
    let call = worker.link.receive(0, None).unwrap();
    assert_eq!(call.kind, Kind::Call);
    let finish: warden_proto::msg::worker::Finish = worker.link.receive(0, None).unwrap().decode().unwrap();
    assert_eq!(finish.end, End::OutOfTime);
}

#[test]
fn what_cannot_plan_is_refused() {
    let template = Template::start();
    let no_brain = compile(b"(component)", false).unwrap();
    let ran = template.run_code(&no_brain, planner(&json!([])));
    assert!(matches!(ran.end(), End::Invalid { message } if message.contains("osagent:agent/control")), "{ran:?}");
    let module = compile(rig::HELLO.as_bytes(), false).unwrap();
    let ran = template.run_code(&module, planner(&json!([])));
    assert!(matches!(ran.end(), End::Invalid { message } if message.contains("core module")), "{ran:?}");
}
