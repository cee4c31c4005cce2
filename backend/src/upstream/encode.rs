//! The frames that a relay sends to a runner.

use lodge_proto::frame::{self, FrameError, Header, Kind};
use lodge_proto::relay::{Actor, ToRunner};

/// Appends a control frame.
pub(crate) fn control(channel: u32, control: &ToRunner, out: &mut Vec<u8>) -> Result<(), FrameError> {
    // These types hold strings, numbers and maps with string keys: serialising them cannot fail.
    let payload = serde_json::to_vec(control).unwrap_or_default();
    frame::encode(&Header::new(Kind::Control).channel(channel), &payload, out)
}

/// Appends a command frame. `command` is a JSON object that was parsed before; its bytes go on unchanged.
pub(crate) fn command(
    channel: u32,
    actor: &Actor,
    command: &str,
    out: &mut Vec<u8>,
) -> Result<(), FrameError> {
    let actor = serde_json::to_string(actor).unwrap_or_default();
    let mut payload = Vec::with_capacity(actor.len() + command.len() + 24);
    payload.extend_from_slice(b"{\"actor\":");
    payload.extend_from_slice(actor.as_bytes());
    payload.extend_from_slice(b",\"command\":");
    payload.extend_from_slice(command.as_bytes());
    payload.push(b'}');
    frame::encode(&Header::new(Kind::Command).channel(channel), &payload, out)
}

/// Appends bytes for a terminal.
pub(crate) fn blob(channel: u32, terminal: u32, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
    let header = Header::new(Kind::Blob)
        .channel(channel)
        .session(u64::from(terminal));
    frame::encode(&header, bytes, out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lodge_proto::relay::{CommandEnvelope, Rights};

    #[test]
    fn a_command_reaches_the_runner_byte_for_byte() {
        let actor = Actor {
            account: "local".into(),
            name: "A \"b\"".into(),
            rights: Rights::Own,
        };
        let text = r#"{ "id":"1","cmd":"get_models","later":[1,2] }"#;
        let mut bytes = Vec::new();
        command(9, &actor, text, &mut bytes).unwrap();
        let mut decoder = frame::Decoder::new();
        decoder.push(&bytes);
        let (header, payload) = decoder.next_frame().unwrap().unwrap();
        assert_eq!((header.kind, header.channel), (Kind::Command, 9));
        let envelope: CommandEnvelope = serde_json::from_slice(payload).unwrap();
        assert_eq!(envelope.actor, actor);
        assert_eq!(envelope.command.get(), text);
    }

    #[test]
    fn controls_survive_the_round_trip() {
        let mut bytes = Vec::new();
        control(3, &ToRunner::Detach {}, &mut bytes).unwrap();
        let mut decoder = frame::Decoder::new();
        decoder.push(&bytes);
        let (header, payload) = decoder.next_frame().unwrap().unwrap();
        assert_eq!(header.channel, 3);
        assert_eq!(
            serde_json::from_slice::<ToRunner>(payload).unwrap(),
            ToRunner::Detach {}
        );
    }
}
