//! Images in requests, where `limits.images` has them noted instead of refused: no model here
//! sees them, but one that is told of them can say so.

use bytes::Bytes;
use serde_json::{Value, json};

use super::fields;

const NOTE: &str = "[an image that cannot be seen]";
/// Of parts of a message, in all dialects.
const KINDS: [&str; 3] = ["image_url", "input_image", "image"];

/// A request's body with a note in the place of each image. What is no request stays as it is:
/// its dialect tells what is wrong with it.
pub fn noted(body: Bytes) -> Bytes {
    if !body.windows(5).any(|text| text == b"image") {
        return body;
    }
    let Ok(mut request) = fields::json::<Value>(&body) else { return body };
    for list in ["messages", "input"] {
        let messages = request.get_mut(list).and_then(Value::as_array_mut);
        messages.into_iter().flatten().for_each(|message| {
            note_parts(message);
            note_list(message, "content");
        });
    }
    note_list(&mut request, "prompt");
    serde_json::to_vec(&request).map_or(body, Bytes::from)
}

/// OpenAI's way: parts of the content.
fn note_parts(message: &mut Value) {
    let parts = message.get_mut("content").and_then(Value::as_array_mut);
    for part in parts.into_iter().flatten() {
        if part.get("type").and_then(Value::as_str).is_some_and(|kind| KINDS.contains(&kind)) {
            *part = json!({"type": "text", "text": NOTE});
        }
    }
}

/// Ollama's way: a list beside the `text`.
fn note_list(owner: &mut Value, text: &str) {
    let Some(fields) = owner.as_object_mut() else { return };
    let images = fields.get("images").and_then(Value::as_array).map_or(0, Vec::len);
    let said = fields.get(text).and_then(Value::as_str).map(str::to_owned);
    if let (Some(said), 1..) = (said, images) {
        fields.remove("images");
        let notes = [NOTE].repeat(images).join("\n");
        fields.insert(text.to_owned(), format!("{said}\n{notes}").into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &Value) -> Value {
        serde_json::from_slice(&noted(body.to_string().into())).unwrap()
    }

    #[test]
    fn an_image_becomes_a_note_in_each_dialect() {
        let part =
            |kind: &str| json!([{"type": "text", "text": "Look"}, {"type": kind, "image_url": "data:,"}]);
        let text = json!([{"type": "text", "text": "Look"}, {"type": "text", "text": NOTE}]);
        for (given, wanted) in [
            (
                json!({"messages": [{"role": "user", "content": part("image_url")}], "seed": 1}),
                json!({"messages": [{"role": "user", "content": text.clone()}], "seed": 1}),
            ),
            (
                json!({"input": [{"role": "user", "content": part("input_image")}]}),
                json!({"input": [{"role": "user", "content": text}]}),
            ),
            (
                json!({"messages": [{"content": "Look", "images": ["aGk=", "aGk="]}]}),
                json!({"messages": [{"content": format!("Look\n{NOTE}\n{NOTE}")}]}),
            ),
            (json!({"prompt": "Look", "images": ["aGk="]}), json!({"prompt": format!("Look\n{NOTE}")})),
        ] {
            assert_eq!(read(&given), wanted);
        }
    }

    #[test]
    fn what_has_no_image_stays_to_the_byte() {
        for body in ["", "{\"image", "[\"image\"]", "{\"prompt\": \"an image\",  \"images\": []}", "{ }"] {
            let said = noted(Bytes::from(body));
            let same = |text: &[u8]| serde_json::from_slice::<Value>(text).ok();
            assert!(said == body || same(&said) == same(body.as_bytes()), "{body}");
        }
    }
}
