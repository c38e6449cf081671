//! Posts of the shop's blog: comments in an array, replies in an array of each comment, and text of every kind.

use super::bytes::{Elements, Fields, document};
use super::words::{FIRST_NAMES, LAST_NAMES, POST_ANGLES, POST_SUBJECTS, POST_TAGS, REMARKS, SENTENCES};
use super::{Kind, object_id};
use crate::random::Random;

/// 2019-03-01, when the blog began, in milliseconds since 1970.
const BEGAN: i64 = 1_551_398_400_000;

/// A post comes every five hours, as in the best of blogs.
const PACE_MILLIS: i64 = 18_000_000;

const DAY_MILLIS: u64 = 86_400_000;

/// 1950-01-01: most authors were born before 1970, where times are negative.
const FIRST_BIRTH: i64 = -631_152_000_000;

const AUTHORS: u64 = 12;

/// Appends the post with this number, counted from 0.
pub(super) fn write(seed: u64, number: u64, bytes: &mut Vec<u8>) {
    let mut random = Random::of(seed, Kind::Post as u64, number);
    let published = BEGAN + number as i64 * PACE_MILLIS + random.below(PACE_MILLIS as u64) as i64;
    document(bytes, |post| {
        post.object_id("_id", object_id(seed, published, number));
        post.string("title", &format!("{}: {}", random.pick(&POST_SUBJECTS), random.pick(&POST_ANGLES)));
        post.string("body", &text(&mut random));
        let author = random.below(AUTHORS);
        post.document("author", |fields| write_author(seed, author, fields));
        post.date("published_at", published);
        write_views(&mut random, post);
        let tags = random.below(5);
        post.array("tags", |elements| {
            for _ in 0..tags {
                elements.string(random.pick_skewed(&POST_TAGS));
            }
        });
        write_comments(&mut random, published, post);
    });
}

/// Few posts are seen more often than an int32 can count.
fn write_views(random: &mut Random, post: &mut Fields<'_>) {
    if random.percent(2) {
        post.int64("views", random.between(1 << 32, 1 << 40) as i64);
    } else {
        post.int32("views", random.skewed_below(200_000) as i32);
    }
}

/// The author with this number is the same in every post.
fn write_author(seed: u64, number: u64, fields: &mut Fields<'_>) {
    let mut random = Random::of(seed, Kind::Author as u64, number);
    fields.string("name", &person(&mut random));
    fields.date("born", FIRST_BIRTH + random.below(40 * 365 * DAY_MILLIS) as i64);
    if random.percent(50) {
        fields.string("motto", random.pick(&SENTENCES));
    }
}

fn person(random: &mut Random) -> String {
    format!("{} {}", random.pick(&FIRST_NAMES), random.pick(&LAST_NAMES))
}

/// One to six paragraphs, with the line ends of one system or the other.
fn text(random: &mut Random) -> String {
    let line_end = if random.percent(10) { "\r\n" } else { "\n" };
    let mut text = String::new();
    for paragraph in 0..random.between(1, 6) {
        if paragraph > 0 {
            text.push_str(line_end);
            text.push_str(line_end);
        }
        for sentence in 0..random.between(1, 5) {
            if sentence > 0 {
                text.push(' ');
            }
            text.push_str(random.pick(&SENTENCES));
        }
    }
    text
}

/// None on some posts, a few on most, many on one in a hundred.
fn write_comments(random: &mut Random, published: i64, post: &mut Fields<'_>) {
    let comments = match random.below(100) {
        0 => random.between(20, 60),
        1..25 => 0,
        _ => 1 + random.skewed_below(12),
    };
    if comments == 0 && random.percent(50) {
        return;
    }
    post.array("comments", |elements| {
        let mut last = published;
        for _ in 0..comments {
            last += random.skewed_below(10 * DAY_MILLIS) as i64;
            write_comment(random, last, elements);
        }
    });
}

fn write_comment(random: &mut Random, created: i64, comments: &mut Elements<'_>) {
    comments.document(|comment| {
        comment.string("author", &person(random));
        comment.string("body", random.pick(&REMARKS));
        comment.date("created_at", created);
        comment.int32("likes", random.skewed_below(80) as i32);
        let replies = random.skewed_below(4);
        if replies > 0 {
            comment.array("replies", |elements| {
                for hours in 1..=replies {
                    write_reply(random, created + hours as i64 * 3_600_000, elements);
                }
            });
        }
    });
}

fn write_reply(random: &mut Random, created: i64, replies: &mut Elements<'_>) {
    replies.document(|reply| {
        reply.string("author", &person(random));
        reply.string("body", random.pick(&REMARKS));
        reply.date("created_at", created);
    });
}
