//! Modes: those of the agent, and what they come to under what Lodge has told it.

use super::options::{Choice, GEMINI};
use super::{Acp, Asked};
use crate::fold::Cx;
use lodge_proto::ErrorBody;
use lodge_proto::session::ModeInfo;
use serde_json::json;

/// Modes of Gemini in which Lodge's policy lets every tool run where nobody is to be asked.
const OPEN: [&str; 2] = ["default", "autoEdit"];
/// What such a mode is: the name that Gemini has for it. It takes that one only where it trusts the workspace's code.
const YOLO: &str = "yolo";

impl Acp {
    /// Whether the agent has modes that ask by their name and do not by their policy.
    fn is_open_by_policy(&self, cx: &Cx<'_>) -> bool {
        self.agent == GEMINI && cx.launch().is_some_and(|launch| !launch.ask_permissions)
    }

    pub(super) fn modes(&mut self, cx: &mut Cx<'_>, choices: &[Choice<'_>]) {
        self.options.modes = choices.iter().map(|choice| choice.id.to_owned()).collect();
        let mut modes: Vec<ModeInfo> = choices
            .iter()
            .map(|choice| ModeInfo {
                id: choice.id.to_owned(),
                name: choice.name.to_owned(),
                description: choice.description.map(str::to_owned),
            })
            .collect();
        if self.is_open_by_policy(cx) {
            modes.retain(|mode| !OPEN.contains(&mode.id.as_str()));
            if modes.iter().all(|mode| mode.id != YOLO) {
                let name = "YOLO".to_owned();
                let mode = ModeInfo {
                    id: YOLO.to_owned(),
                    name,
                    description: None,
                };
                modes.insert(0, mode);
            }
        }
        cx.capabilities(|can| can.modes = modes);
    }

    /// The mode that the agent says it is in.
    pub(super) fn mode_now(&self, cx: &mut Cx<'_>, native: &str) {
        let is_open = OPEN.contains(&native) && self.is_open_by_policy(cx);
        cx.mode(if is_open { YOLO } else { native });
    }

    pub(super) fn use_mode(&mut self, cx: &mut Cx<'_>, mode: &str) -> Result<String, ErrorBody> {
        let session = self.session.clone().ok_or_else(super::not_open)?;
        let asked = Asked::Mode(mode.to_owned());
        let native = if mode == YOLO && self.is_open_by_policy(cx) {
            OPEN[0]
        } else {
            mode
        };
        if let Some(option) = self.options.mode.clone() {
            return Ok(self.set_option(cx, &session, &option, native, asked));
        }
        let params = json!({ "sessionId": session, "modeId": native });
        Ok(self.request(cx, "session/set_mode", &params, asked))
    }
}
