//! Calls to the model: the budget first, then cap-llm.

use super::act::{Act, limit_error, outcome_of};
use super::monitor::Row;
use super::{Answer, Stop, Task, Verdict, failed};
use crate::audit::Value;
use crate::ledger::Cost;
use std::time::Duration;
use tokio::time::Instant;
use warden_policy::LimitKey;
use warden_policy::{Call, Verdict as Decided};
use warden_proto::msg::error::{CallError, ErrorCode};
use warden_proto::msg::life::Role;
use warden_proto::msg::llm::{LlmCall, LlmReply};
use warden_proto::msg::worker::{Origin, WorkerReply};
use warden_proto::render;

/// How long a model may take for one answer.
const MODEL_PATIENCE: Duration = Duration::from_secs(120);

impl Task {
    /// One call to the model.
    pub(super) async fn model(&mut self, row: Row, origin: Origin, call: LlmCall) -> Answer {
        self.report.count(row.capability);
        let result = self.model_act(row, call).await?;
        if origin == Origin::Action {
            let rendered = result.as_ref().map(|(reply, content)| render::llm(content, reply)).map_err(Clone::clone);
            self.progress.action(row.capability, "", rendered.as_ref().err());
            self.report.action(row.capability, &rendered);
        }
        match result {
            Ok((LlmReply { mismatch: Some(detail), .. }, _)) => {
                // The recording does not fit what happened: the run is over, whatever the planner makes of it (T-15).
                self.verdict = Some(Verdict::Failed(format!("the recording does not match: {detail}")));
                Err(Stop(super::Ending::Verdict(Verdict::Failed(format!("the recording does not match: {detail}")))))
            }
            Ok((mut reply, content)) => {
                reply.content = self.place_for_worker(content, 0).await?;
                Ok(WorkerReply::Llm(reply))
            }
            Err(error) => Ok(failed(error)),
        }
    }

    async fn model_act(&mut self, row: Row, call: LlmCall) -> Result<Result<(LlmReply, Vec<u8>), CallError>, Stop> {
        let LlmCall { conversation, tools, options } = call;
        let conversation = self.worker()?.peer.take(conversation)?;
        let size = u64::try_from(conversation.len()).unwrap_or(u64::MAX);
        let sent = conversation.clone();
        let fields = [("conversation", Value::Bytes(&sent)), ("tools", Value::Bool(tools))];
        let input = Value::Fields(&fields);
        let rule = match self.allow_model(row) {
            Ok(rule) => rule,
            Err(error) => {
                self.note_spent(&error);
                self.refuse(row, row.capability, "model", input, &error)?;
                return Ok(Err(error));
            }
        };
        if let Err(error) = self.need(Role::CapLlm).await? {
            self.refuse(row, row.capability, "model", input, &error)?;
            return Ok(Err(error));
        }
        let reserved = match self.reserve_model(size, options.max_tokens) {
            Ok(reserved) => reserved,
            Err(error) => {
                self.note_spent(&error);
                self.refuse(row, row.capability, "model", input, &error)?;
                return Ok(Err(error));
            }
        };
        let act = Act { row, input, rule: &rule };
        let ticket = self.begin(&act)?;
        let started = Instant::now();
        let (result, tokens) = self.ask_model(conversation, tools, options).await;
        // T-06: what is not known to have cost less has cost what was reserved, or a helper that is killed under each of its
        // calls would make the budget endless.
        let amount = tokens.unwrap_or(reserved.1);
        self.ledger.settle(reserved.0, amount);
        let moved = result.as_ref().ok().and_then(|(_, content)| u64::try_from(content.len()).ok());
        let content = result.as_ref().map_or(&[][..], |(_, content)| content.as_slice());
        let told = [("tokens", Value::Number(amount)), ("content", Value::Bytes(content))];
        self.end(&act, ticket, outcome_of(&result, Value::Fields(&told)), moved, started)?;
        Ok(result)
    }

    fn note_spent(&mut self, error: &CallError) {
        if error.code == ErrorCode::Limit {
            self.model_spent = Some(error.message.to_string());
        }
    }

    fn allow_model(&mut self, row: Row) -> Result<String, CallError> {
        let policy = self.spec.policy.clone();
        let verdict = policy.decide(&Call::Named { capability: row.capability });
        let rule = match verdict.map_err(|e| CallError::new(ErrorCode::InvalidArgument, &e.to_string()))? {
            Decided::Deny(denial) => return Err(CallError::denied(&denial.rule, &denial.reason)),
            Decided::Allow(grant) => {
                self.check_approval(row.capability, grant.approval.as_deref())?;
                grant.rules.last().cloned().unwrap_or_default()
            }
        };
        let taken = self.ledger.reserve(Cost::LlmCalls, 1);
        let taken = taken.map_err(|spent| limit_error(&spent, policy.limits().rule(LimitKey::LlmCalls)))?;
        self.ledger.settle(taken, 1);
        Ok(rule)
    }

    /// Reserves what a call may cost: four bytes a token for what is sent, and the answer's own bound.
    fn reserve_model(
        &mut self,
        sent_bytes: u64,
        max_tokens: Option<u32>,
    ) -> Result<(crate::ledger::Reserved, u64), CallError> {
        let left = self.ledger.left(Cost::LlmTokens);
        let wanted = (sent_bytes / 4).saturating_add(u64::from(max_tokens.unwrap_or(0))).max(1);
        // The estimate is rough, so a call that might just fit is let through; what it really costs is settled after it.
        let amount = if left == 0 { wanted } else { wanted.min(left) };
        let policy = self.spec.policy.clone();
        let reserved = self.ledger.reserve(Cost::LlmTokens, amount);
        let reserved = reserved.map_err(|spent| limit_error(&spent, policy.limits().rule(LimitKey::LlmTokens)))?;
        Ok((reserved, amount))
    }

    /// The answer, and the tokens that it cost, where that is known.
    async fn ask_model(
        &mut self,
        conversation: Vec<u8>,
        tools: bool,
        options: warden_proto::msg::llm::LlmOptions,
    ) -> (Result<(LlmReply, Vec<u8>), CallError>, Option<u64>) {
        let conversation = match self.place_for_helper(Role::CapLlm, conversation, 8192).await {
            Ok(conversation) => conversation,
            // The call itself was never sent.
            Err(error) => return (Err(error), Some(0)),
        };
        let call = LlmCall { conversation, tools, options };
        self.model_calls = self.model_calls.saturating_add(1);
        let reply = match self.ask(Role::CapLlm, &call, MODEL_PATIENCE).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(refused)) => return (Err(refused), Some(0)),
            Err(lost) => return (Err(lost), None),
        };
        let tokens = reply.usage.map(|usage| u64::from(usage.total_tokens));
        match self.payload(Role::CapLlm, reply.content.clone()).await {
            Ok(content) => (Ok((reply, content)), tokens),
            Err(lost) => (Err(lost), None),
        }
    }
}
