//! An answer does not change, however often its worker changes.

use crate::support::{Worker, ask};

#[test]
fn resumed_after_every_possible_token_an_answer_is_the_same() {
    let (mut worker, _) = Worker::ready(&[]);
    let mut request = ask("Write two sentences about the sea.", 24);
    request.sampling.repeat_penalty = Some(1.1);
    request.sampling.stop = vec!["\n\n".to_owned()];
    let whole = worker.answer(1, &request, &[]);
    let (ids, whole_done) = (whole.ids(), whole.done.as_ref().unwrap());
    assert!(ids.len() > 5, "too short to say anything: {}", whole.text());
    for cut in 0..=ids.len() {
        // Another request between drives the prompt off the card now and then.
        if cut % 5 == 0 {
            worker.answer(1000 + cut as u64, &ask("Something else entirely.", 2), &[]);
        }
        let rest = worker.answer(2 + cut as u64, &request, &ids[..cut]);
        let done = rest.done.as_ref().unwrap();
        assert_eq!(rest.tokens, whole.tokens[cut..], "after {cut} tokens");
        assert_eq!((done.finish, &done.tail), (whole_done.finish, &whole_done.tail), "after {cut} tokens");
        let (mut usage, mut expected) = (done.usage, whole_done.usage);
        (usage.cached_tokens, expected.cached_tokens) = (0, 0);
        assert_eq!(usage, expected, "after {cut} tokens");
    }
}
