//! Steps against a scripted host: what is asked, what is repaired, what is remembered.

use super::*;
use crate::host::{Command, Role, Tool, Workspace};
use std::collections::VecDeque;

const LOOK: &str = r#"{"status":"continue","thought":"look","actions":[{"capability":"fs.list_dir","input":{}}]}"#;
const DONE: &str = r#"{"status":"complete","reason":"done","result":{"ok":true}}"#;

/// Gives its answers in order and keeps what it was asked.
#[derive(Default)]
struct Script {
    words: VecDeque<Result<String, CallFault>>,
    tool_calls: VecDeque<String>,
    asked: Vec<Vec<Message>>,
    tools: Vec<Tool>,
    describes: usize,
}

impl Script {
    fn of(words: &[&str]) -> Self {
        Self { words: words.iter().map(|text| Ok((*text).to_owned())).collect(), ..Self::default() }
    }
    fn last_message(&self) -> &Message {
        self.asked.last().unwrap().last().unwrap()
    }
}

impl Host for Script {
    fn describe(&mut self) -> Result<Grants, CallFault> {
        self.describes += 1;
        Ok(Grants {
            workspaces: vec![Workspace { label: "repo".into(), read_only: false, max_file_bytes: None }],
            commands: vec![Command { name: "git".into(), description: None }],
            budgets: Vec::new(),
        })
    }
    fn complete(&mut self, messages: &[Message]) -> Result<String, CallFault> {
        self.asked.push(messages.to_vec());
        self.words.pop_front().unwrap_or_else(|| Err(ended()))
    }
    fn call_tools(&mut self, messages: &[Message], tools: &[Tool]) -> Result<String, CallFault> {
        self.asked.push(messages.to_vec());
        self.tools = tools.to_vec();
        Ok(self.tool_calls.pop_front().unwrap_or_else(|| "[]".to_owned()))
    }
}

fn ended() -> CallFault {
    CallFault { call: "llm.complete", code: "unavailable", message: "recording ended".into() }
}

fn start() -> Observation {
    Observation::new(1, "the task begins", "{}")
}

#[test]
fn a_step_asks_once_and_ends_with_the_observation() {
    let (mut brain, mut host) = (Brain::default(), Script::of(&[LOOK, DONE]));
    assert!(matches!(brain.step("fix it", &start(), &mut host), Ok(Turn::Continue { actions, .. }) if actions.len() == 1));
    let roles: Vec<Role> = host.asked[0].iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::System, Role::User, Role::User]);
    assert_eq!(host.asked[0][1].content, "Task:\nfix it");
    assert_eq!(host.last_message().content, "Observation of step 1:\nthe task begins\n{}");

    let seen =
        Observation::new(2, "executed 1 action(s) with 0 failure(s)", r#"{"actions":[{"capability":"fs.list_dir","success":true}]}"#);
    assert!(matches!(brain.step("fix it", &seen, &mut host), Ok(Turn::Complete { .. })));
    assert_eq!(host.asked[1].len(), 5);
    assert!(host.last_message().content.starts_with("Observation of step 2:\nexecuted 1 action(s)"));
    assert_eq!(host.describes, 1);
}

#[test]
fn a_bad_answer_is_repaired_and_then_forgotten() {
    let wrong_input = r#"{"status":"continue","actions":[{"capability":"fs.read_file","input":{}}]}"#;
    let (mut brain, mut host) = (Brain::default(), Script::of(&["Let me see.", wrong_input, LOOK, DONE]));
    assert!(brain.step("t", &start(), &mut host).is_ok());
    assert_eq!(host.asked.len(), 3);
    assert!(host.asked[1].last().unwrap().content.starts_with("That answer cannot be used: the answer is not JSON"));
    assert!(host.asked[2].last().unwrap().content.contains("\"path\" is missing"));
    assert!(brain.step("t", &Observation::new(2, "", "{}"), &mut host).is_ok());
    assert!(host.asked[3].iter().all(|message| !message.content.contains("cannot be used") && !message.content.contains("Let me see")));
}

#[test]
fn a_third_bad_answer_ends_the_step_and_not_the_task() {
    let (mut brain, mut host) = (Brain::default(), Script::of(&["a", "b", "c", LOOK]));
    let fault = brain.step("t", &start(), &mut host).unwrap_err();
    assert!(fault.retryable() && fault.to_string().contains("in 3 tries"), "{fault}");
    assert_eq!(host.asked.len(), 3);
    assert!(brain.step("t", &start(), &mut host).is_ok());
    assert_eq!(host.asked[3].len(), 3);
}

#[test]
fn a_recording_that_ended_is_no_reason_to_ask_again() {
    let (mut brain, mut host) = (Brain::default(), Script::of(&[]));
    let fault = brain.step("t", &start(), &mut host).unwrap_err();
    assert_eq!(fault, StepFault::Call(ended()));
    assert!(!fault.retryable());
    assert!(CallFault { code: "timeout", ..ended() }.retryable());
}

#[test]
fn tool_calls_are_asked_for_first_and_words_when_there_are_none() {
    let mut host = Script::of(&[DONE]);
    host.tool_calls.push_back(r#"[{"id":"1","type":"function","function":{"name":"fs_list_dir","arguments":"{}"}}]"#.into());
    let mut brain = Brain::new(TurnForm::Tools);
    let turn = brain.step("t", &start(), &mut host).unwrap();
    assert!(matches!(&turn, Turn::Continue { actions, .. } if actions[0].capability == "fs.list_dir"));
    assert!(host.tools.iter().any(|tool| tool.name == "proc_spawn"));
    assert!(matches!(brain.step("t", &Observation::new(2, "", "{}"), &mut host), Ok(Turn::Complete { .. })));
    assert_eq!(host.asked.len(), 3);
    assert_eq!(host.asked[1], host.asked[2]);
}

#[test]
fn an_action_that_is_known_and_not_granted_goes_to_the_broker() {
    struct Bare(Script);
    impl Host for Bare {
        fn describe(&mut self) -> Result<Grants, CallFault> {
            Ok(Grants::default())
        }
        fn complete(&mut self, messages: &[Message]) -> Result<String, CallFault> {
            self.0.complete(messages)
        }
        fn call_tools(&mut self, messages: &[Message], tools: &[Tool]) -> Result<String, CallFault> {
            self.0.call_tools(messages, tools)
        }
    }
    let mut host = Bare(Script::of(&[LOOK]));
    assert!(Brain::default().step("t", &start(), &mut host).is_ok());
    assert_eq!(host.0.asked.len(), 1);
    let unknown = r#"{"status":"continue","actions":[{"capability":"disk.format","input":{}}]}"#;
    let mut host = Bare(Script::of(&[unknown, unknown, unknown]));
    assert!(matches!(Brain::default().step("t", &start(), &mut host), Err(StepFault::NoUsableTurn { .. })));
}

#[test]
fn another_task_begins_anew() {
    let (mut brain, mut host) = (Brain::default(), Script::of(&[LOOK, LOOK]));
    brain.step("first secret", &start(), &mut host).unwrap();
    brain.step("second", &start(), &mut host).unwrap();
    assert!(host.asked[1].iter().all(|message| !message.content.contains("first secret")));
    assert_eq!(host.asked[1].len(), 3);
    assert_eq!(brain.step(&"x".repeat(TASK_MAX_BYTES + 1), &start(), &mut host), Err(StepFault::TaskTooLong(TASK_MAX_BYTES + 1)));
}

#[test]
fn an_alias_lives_on_between_steps_and_a_wish_renews_the_grants() {
    let begin = r#"{"status":"continue","actions":[{"capability":"proc.start","input":{"command":"git","args":[],"alias":"g"}}]}"#;
    let wait = r#"{"status":"continue","actions":[{"capability":"proc.wait","input":{"process":"g"}}]}"#;
    let wish =
        r#"{"status":"continue","actions":[{"capability":"policy.request_capability","input":{"capability":"a","justification":"b"}}]}"#;
    let (mut brain, mut host) = (Brain::default(), Script::of(&[begin, wait, wish, LOOK, DONE]));
    brain.step("t", &start(), &mut host).unwrap();
    let worked = r#"{"actions":[{"capability":"proc.start","success":true}]}"#;
    brain.step("t", &Observation::new(2, "", worked), &mut host).unwrap();
    assert_eq!((host.asked.len(), host.describes), (2, 1));
    brain.step("t", &Observation::new(3, "", "{}"), &mut host).unwrap();
    brain.step("t", &Observation::new(4, "", "{}"), &mut host).unwrap();
    assert_eq!(host.describes, 2);
}
