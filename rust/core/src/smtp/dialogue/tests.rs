//! What a dialogue is known to be, said by said; and that it is so, whatever is said.

use proptest::prelude::*;

use super::*;

/// Pieces by who says them: `C` or `S` first; `c` and a number stands for so many unseen bytes.
fn heard(pieces: &[&str]) -> Dialogue {
    let mut dialogue = Dialogue::new(Protocol::Smtp);
    tell(&mut dialogue, pieces);
    dialogue
}

fn tell(dialogue: &mut Dialogue, pieces: &[&str]) {
    for piece in pieces {
        let (who, said) = piece.split_at(1);
        match who {
            "C" => dialogue.hear(Side::Client, said.as_bytes()),
            "S" => dialogue.hear(Side::Server, said.as_bytes()),
            "c" => dialogue.miss(Side::Client, said.parse().unwrap()),
            _ => dialogue.miss(Side::Server, said.parse().unwrap()),
        }
    }
}

const TO_DATA: [&str; 5] = [
    "S220 mx\r\n",
    "CMAIL\r\nRCPT\r\n",
    "S250 a\r\n250 b\r\n",
    "CDATA\r\n",
    "S354 go\r\n",
];

fn behind_354(pieces: &[&str]) -> Dialogue {
    heard(&[&TO_DATA[..], pieces].concat())
}

fn behind_greeting(pieces: &[&str]) -> Dialogue {
    heard(&[&["S220 mx\r\n"], pieces].concat())
}

#[test]
fn between_commands_every_reply_is_there() {
    for (pieces, expected) in [
        (vec![], true),
        (vec!["CEHLO a\r\n"], false),
        (vec!["CEHLO a\r\n", "S250-mx\r\n250 SIZE\r\n"], true),
        (vec!["CEHLO a\r\n", "S250-mx\r\n250 SI"], false),
        (vec!["CEHLO a\r\n", "S250-mx\r\n"], false),
        (vec!["CMA"], false),
        (vec!["CMAIL\r\nRCPT\r\n", "S250 a\r\n"], false),
        (vec!["CMAIL\r\nRCPT\r\n", "S250 a\r\n", "S550 b\r\n"], true),
        (vec!["CMAIL\r\nRC", "S250 a\r\n"], false),
        (vec!["CAUTH LOGIN\r\n", "S334 VXNl\r\n"], false),
        (
            vec!["CAUTH LOGIN\r\n", "S334 VXNl\r\n", "CdXNlcg==\r\n"],
            false,
        ),
        (
            vec![
                "CAUTH LOGIN\r\n",
                "S334 VXNl\r\n",
                "CQUIT\r\n",
                "S235 ok\r\n",
            ],
            true,
        ),
        (vec!["CDATA\r\n", "S503 no\r\n"], true),
    ] {
        assert_eq!(
            behind_greeting(&pieces).is_between_commands(),
            expected,
            "{pieces:?}"
        );
    }
    assert!(!heard(&[]).is_between_commands());
    assert!(!heard(&["S220-teaser\r\n"]).is_between_commands());
    // Whoever talks before the greeting waits for two replies.
    assert!(!heard(&["CEHLO a\r\n", "S220 mx\r\n"]).is_between_commands());
    assert!(heard(&["CEHLO a\r\n", "S220 mx\r\n", "S250 ok\r\n"]).is_between_commands());
}

#[test]
fn a_message_ends_with_what_answers_it() {
    for (pieces, between, in_data) in [
        (vec![], false, true),
        (vec!["Ctext\r\n"], false, true),
        (vec!["Ctext\r\n.\r\n"], false, true),
        (vec!["Ctext\r\n", "C.", "C\r\n", "S250 ok\r\n"], true, false),
        (vec!["C.\r\n", "S451 no\r\n"], true, false),
        // It was passed on with the dot: no 421 of ours before its reply.
        (vec!["C.\r\nMAIL\r\n", "S250 ok\r\n"], false, false),
        (vec!["C.\r\nMAIL\r\n", "S250 ok\r\n250 ok\r\n"], true, false),
    ] {
        let dialogue = behind_354(&pieces);
        assert_eq!(dialogue.is_between_commands(), between, "{pieces:?}");
        assert_eq!(dialogue.in_data(), Some(in_data), "{pieces:?}");
    }
    // Its server takes another end for the end, or has heard enough.
    assert_eq!(behind_354(&["Ctext\n.\n", "S250 ok\r\n"]).in_data(), None);
    // Asked in one piece, answered in one.
    let asked_at_once = ["CMAIL\r\nRCPT\r\nDATA\r\n", "S250 a\r\n250 b\r\n354 go\r\n"];
    assert_eq!(behind_greeting(&asked_at_once).in_data(), Some(true));
}

#[test]
fn a_spliced_message_ends_with_the_next_reply() {
    let body = ["Ctext\r\n", "c300000", "Cmore", "c70000"];
    assert!(!behind_354(&body).is_between_commands());
    assert_eq!(behind_354(&body).in_data(), Some(true));
    let answered = behind_354(&[&body[..], &["S250-a\r\n", "S250 taken\r\n"]].concat());
    assert!(answered.is_between_commands());
    assert_eq!(answered.in_data(), Some(false));
    // Its dot is seen all the same, and what stands behind that.
    let seen = [&body[..], &["Ctext\r\n.\r\nNOOP\r\n", "S250 taken\r\n"]].concat();
    assert!(!behind_354(&seen).is_between_commands());
    assert!(behind_354(&[&seen[..], &["S250 ok\r\n"]].concat()).is_between_commands());
    // DATA stood unseen behind the dot: its 354 is no surprise.
    let piped = [
        &body[..],
        &["S250 taken\r\n", "S250 a\r\n250 b\r\n354 go\r\n"],
    ]
    .concat();
    assert_eq!(behind_354(&piped).in_data(), Some(true));
    let next = [&piped[..], &["Ctext\r\n.\r\n", "S250 taken\r\n"]].concat();
    assert!(behind_354(&next).is_between_commands());
}

#[test]
fn a_chunk_is_counted_seen_or_not() {
    let begun = behind_greeting(&["CMAIL\r\nBDAT 9\r\n.\r\nQ"]);
    assert_eq!(begun.may_miss(Side::Client), Some(5));
    for (pieces, between, in_data) in [
        (vec!["CBDAT 5 LAST\r\nhello"], false, true),
        (vec!["CBDAT 5 LAST\r\nhello", "S250 ok\r\n"], true, false),
        (vec!["CBDAT 5\r\nhello", "S250 ok\r\n"], false, true),
        (vec!["CBDAT 5\r\nhello", "S552 no\r\n"], true, false),
        (
            vec![
                "CBDAT 5\r\nhello",
                "S250 ok\r\n",
                "CRSET\r\n",
                "S250 ok\r\n",
            ],
            true,
            false,
        ),
        (
            vec![
                "CBDAT 5\r\nhello",
                "S250 ok\r\n",
                "CBDAT 0 LAST\r\n",
                "S250 ok\r\n",
            ],
            true,
            false,
        ),
        (
            vec!["CBDAT 70000 LAST\r\n", "c69999", "S250 early\r\n"],
            false,
            true,
        ),
        (
            vec!["CBDAT 70000 LAST\r\n", "c69999", "Cx", "S250 ok\r\n"],
            true,
            false,
        ),
        // Two messages, one answered.
        (
            vec![
                "CBDAT 1 LAST\r\naMAIL\r\nBDAT 1 LAST\r\nb",
                "S250 ok\r\n250 ok\r\n",
            ],
            false,
            true,
        ),
    ] {
        let dialogue = behind_greeting(&pieces);
        assert_eq!(dialogue.is_between_commands(), between, "{pieces:?}");
        assert_eq!(dialogue.in_data(), Some(in_data), "{pieces:?}");
    }
}

#[test]
fn only_what_can_be_counted_may_be_missed() {
    let client = |dialogue: &Dialogue| dialogue.may_miss(Side::Client);
    assert_eq!(client(&behind_greeting(&["CNOOP\r\n"])), Some(0));
    assert_eq!(client(&behind_354(&[])), None);
    assert_eq!(client(&behind_354(&["c300000"])), None);
    assert_eq!(client(&behind_354(&["C.\r\n"])), Some(0));
    assert_eq!(behind_354(&[]).may_miss(Side::Server), Some(0));
    // Nothing is followed there.
    assert_eq!(client(&heard(&START)), None);
    assert_eq!(heard(&START).may_miss(Side::Server), None);
    assert_eq!(client(&behind_greeting(&["CBDAT ?\r\n"])), None);
}

#[test]
fn of_a_lost_thread_nothing_is_said() {
    for pieces in [
        // A reply that nobody asked for, or no reply.
        vec!["S250 what\r\n"],
        vec!["CNOOP\r\n", "Shello\r\n250 ok\r\n"],
        vec!["CNOOP\r\n", "s70000", "S250 ok\r\n"],
        vec!["c70000", "S250 ok\r\n"],
        // Whoever doesn't wait for the 354.
        vec!["CDATA\r\ntext\r\n", "S354 go\r\n", "C.\r\n", "S250 ok\r\n"],
        vec!["CNOOP\r\n", "S354 go\r\n", "S250 ok\r\n"],
        vec!["CNOOP\r\nNOOP\r\n", "S334 what\r\n", "S250 ok\r\n"],
        vec!["CSTARTTLS\r\nNOOP\r\n", "S220 go\r\n", "S250 ok\r\n"],
        // What ends behind the chunk can't be told from the next one.
        vec!["CBDAT 70000 LAST\r\n", "c70001", "S250 ok\r\n"],
        vec!["CBDAT ?\r\n", "S501 what\r\n"],
    ] {
        let dialogue = behind_greeting(&pieces);
        assert!(!dialogue.is_between_commands(), "{pieces:?}");
        assert_eq!(dialogue.in_data(), None, "{pieces:?}");
    }
}

#[test]
fn leave_is_taken_by_a_command_and_not_by_a_line_of_a_message() {
    assert!(behind_greeting(&["CQUIT\r\n"]).has_quit());
    assert!(behind_greeting(&["Cqu", "Cit \r\n", "S221 bye\r\n"]).has_quit());
    assert!(behind_greeting(&["CRSET\r\nQUIT\r\n"]).has_quit());
    assert!(!behind_greeting(&["CQUITE\r\n", "S221 what\r\n"]).has_quit());
    assert!(!behind_greeting(&["CQUIT\r\n", "S221 bye\r\n", "CNOOP\r\n"]).has_quit());
    assert!(!behind_354(&["Ctext\r\nQUIT\r\n"]).has_quit());
    assert!(behind_354(&["Ctext\r\n.\r\nquit\r\n"]).has_quit());
    assert!(behind_354(&["C.\r\nQUIT\r\n"]).has_quit());
}

#[test]
fn leave_is_known_behind_what_was_not_seen() {
    assert!(behind_354(&["c300000", "S250 ok\r\n", "CQUIT\r\n"]).has_quit());
    assert!(behind_354(&["c300000", "C\r\n.\r\nQUIT\r\n"]).has_quit());
    assert!(behind_354(&["c300000", "S250 ok\r\n", "S221 bye\r\n"]).has_quit());
    assert!(behind_354(&["c300000", "S250 ok\r\n221 bye\r\n"]).has_quit());
    assert!(!behind_354(&["c300000", "S250 ok\r\n"]).has_quit());
    // By the answer alone where the thread is lost.
    assert!(
        behind_greeting(&["CBDAT ?\r\n", "S501 what\r\n", "CQUIT\r\n", "S221 bye\r\n"]).has_quit()
    );
}

#[test]
fn a_server_that_ends_the_session_is_known() {
    assert!(behind_greeting(&["S421 4.4.2 timeout\r\n"]).server_is_closing());
    assert!(behind_354(&["S421 4.4.2 timeout\r\n"]).server_is_closing());
    assert!(!behind_greeting(&[]).server_is_closing());
    // One that is heard of no more isn't between two commands, and has no message.
    for pieces in [
        vec!["S421 timeout\r\n"],
        vec!["S421 timeout\r\n", "CNOOP\r\n"],
        vec!["S421 timeout\r\n421 5.5.0 I said so\r\n"],
        vec!["CDATA\r\n", "S354 go\r\n", "Ctext\r\n", "S421 timeout\r\n"],
        vec![
            "CDATA\r\n",
            "S354 go\r\n",
            "S421 timeout\r\n",
            "Ctext\r\n.\r\n",
        ],
        vec![
            "CAUTH LOGIN\r\n",
            "S334 VXNl\r\n",
            "CdXN",
            "S421 timeout\r\n",
        ],
    ] {
        let dialogue = behind_greeting(&pieces);
        assert!(dialogue.server_is_closing(), "{pieces:?}");
        assert!(!dialogue.is_between_commands(), "{pieces:?}");
        assert_eq!(dialogue.in_data(), Some(false), "{pieces:?}");
    }
    // A reply like others, of a server that goes on.
    let busy = ["CRCPT\r\n", "S421 4.7.0 later\r\n"];
    assert!(behind_greeting(&busy).is_between_commands());
    // It spoke all the same.
    for more in ["S250 ok\r\n", "Shello\r\n", "s70000"] {
        let dialogue = behind_greeting(&["S421 timeout\r\n", more]);
        assert_eq!(dialogue.in_data(), None, "{more}");
    }
}

const HELLO: &str = "C\u{16}\u{3}\u{1}\u{0}\u{5}hello";
const START: [&str; 4] = ["S220 mx\r\n", "CSTARTTLS\r\n", "S220 go\r\n", HELLO];

#[test]
fn tls_is_known_and_nothing_in_it_is_read() {
    let mut dialogue = heard(&START);
    assert!(dialogue.tls());
    dialogue.hear(Side::Server, b"250 looks like\r\n");
    assert!(!dialogue.is_between_commands() && !dialogue.has_quit());
    assert_eq!(dialogue.in_data(), None);
    assert!(!dialogue.server_is_closing());
    let begins = heard(&START[..3]);
    assert!(!begins.is_between_commands());
    assert_eq!(begins.in_data(), Some(false));
    // The same bytes elsewhere are a client's nonsense.
    assert!(!heard(&["S220 mx\r\n", HELLO]).tls());
    assert!(!heard(&["S220 mx\r\n", "CSTARTTLS\r\n", "S454 no\r\n", HELLO]).tls());
    let mut smtps = Dialogue::new(Protocol::Smtps);
    smtps.hear(Side::Client, &HELLO.as_bytes()[1..]);
    assert!(smtps.tls());
}

#[test]
fn the_last_word_is_known() {
    for (pieces, from, expected) in [
        (vec!["CNOOP\r\n", "S250 ok\r\n"], Side::Server, false),
        (vec!["CQUIT\r\n", "S221 bye\r\n"], Side::Server, true),
        (vec!["CQUIT\r\n"], Side::Client, false),
        (vec!["CNOOP\r\n", "S421 later\r\n"], Side::Server, true),
        (vec!["CNOOP\r\n", "S421 later\r\n"], Side::Client, false),
    ] {
        assert_eq!(
            behind_greeting(&pieces).may_end(from),
            expected,
            "{pieces:?}"
        );
    }
    let mut dialogue = heard(&START);
    assert!(!dialogue.may_end(Side::Client) && !dialogue.may_end(Side::Server));
    dialogue.hear(
        Side::Server,
        &[b"\x17\x03\x03\x00\x13".as_slice(), &[7; 19]].concat(),
    );
    assert!(dialogue.may_end(Side::Client) && dialogue.may_end(Side::Server));
}

#[test]
fn a_goodbye_inside_tls_is_one_until_more_is_said() {
    let alert = [b"\x17\x03\x03\x00\x13".as_slice(), &[7; 19]].concat();
    let mut dialogue = heard(&START);
    assert!(!dialogue.said_goodbye_in_tls());
    dialogue.hear(Side::Client, &alert);
    assert!(dialogue.said_goodbye_in_tls());
    // The other's last answer may come behind it.
    dialogue.hear(Side::Server, b"\x17\x03\x03\x00\x04text");
    assert!(dialogue.said_goodbye_in_tls());
    dialogue.miss(Side::Client, 70_000);
    assert!(!dialogue.said_goodbye_in_tls());
}

proptest! {
    #[test]
    fn any_bytes_are_listened_to(protocol in 0..3, pieces: Vec<(bool, bool, Vec<u8>)>) {
        let protocols = [Protocol::Smtp, Protocol::Smtps, Protocol::Tcp];
        let mut dialogue = Dialogue::new(protocols[protocol as usize]);
        for (client, seen, piece) in pieces {
            let from = if client { Side::Client } else { Side::Server };
            if seen && !piece.is_empty() {
                dialogue.hear(from, &piece);
            } else {
                dialogue.miss(from, 1 + piece.len());
            }
            prop_assert_eq!(dialogue.spoke_last(), Some(from));
            prop_assert!(dialogue.in_data() == Some(false) || !dialogue.is_between_commands());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]
    /// However a session goes and is cut into pieces, what is said of it is so.
    #[test]
    fn what_is_known_is_so(choices in prop::collection::vec(any::<u8>(), 0..400)) {
        model::play(&choices);
    }
}
