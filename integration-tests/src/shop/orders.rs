//! Orders: one nested customer, items in an array, tags in an array of each item.

use super::bytes::{Elements, Fields, document};
use super::words::{CITIES, COLOURS, FIRST_NAMES, ITEM_TAGS, LAST_NAMES, NOTES, PRODUCTS, STREETS};
use super::{Kind, object_id};
use crate::random::Random;

/// 2020-01-01, when the shop opened, in milliseconds since 1970.
pub(super) const OPENED: i64 = 1_577_836_800_000;

/// An order comes every 79 seconds: 400,000 in a year.
const PACE_MILLIS: i64 = 79_000;

const DAY_MILLIS: u64 = 86_400_000;

/// People come back: this many customers give all the orders.
const CUSTOMERS: u64 = 20_000;

/// Appends the order with this number, counted from 0.
pub(super) fn write(seed: u64, number: u64, bytes: &mut Vec<u8>) {
    let mut random = Random::of(seed, Kind::Order as u64, number);
    let created = OPENED + number as i64 * PACE_MILLIS + random.below(PACE_MILLIS as u64) as i64;
    let updated = created + random.skewed_below(14 * DAY_MILLIS) as i64;
    let (status, paid) = status(&mut random);
    document(bytes, |order| {
        order.object_id("_id", object_id(seed, created, number));
        order.int32("number", (100_000 + number) as i32);
        order.string("status", status);
        order.string("sales_channel", random.pick(&["webshop", "webshop", "webshop", "app", "app", "telephone"]));
        order.date("created_at", created);
        order.date("updated_at", updated);
        let customer = random.skewed_below(CUSTOMERS);
        order.document("customer", |fields| write_customer(seed, customer, fields));
        let mut cents = 490;
        let items = random.between(1, 4);
        order.array("items", |elements| {
            for _ in 0..items {
                cents += write_item(&mut random, elements);
            }
        });
        write_money(order, "total", cents);
        order.string("currency", "EUR");
        order.boolean("paid", paid);
        order.int64("payment_reference", random.between(10_000_000_000, 9_999_999_999_999_999) as i64);
        match random.below(20) {
            0..11 => order.string("note", random.pick(&NOTES)),
            11..14 => order.null("note"),
            _ => {}
        }
    });
}

fn status(random: &mut Random) -> (&'static str, bool) {
    match random.below(100) {
        0..70 => ("delivered", true),
        70..82 => ("shipped", random.percent(95)),
        82..90 => ("open", random.percent(40)),
        90..96 => ("cancelled", false),
        _ => ("returned", true),
    }
}

/// The customer with this number is the same in every order.
fn write_customer(seed: u64, number: u64, fields: &mut Fields<'_>) {
    let mut random = Random::of(seed, Kind::Customer as u64, number);
    let (first, last) = (random.pick(&FIRST_NAMES), random.pick(&LAST_NAMES));
    let (city, country, postcode) = random.pick_skewed(&CITIES);
    fields.string("name", &format!("{first} {last}"));
    fields.string("email", &email(&mut random, first, last, number));
    fields.document("address", |address| {
        address.string("street", &format!("{} {}", random.pick(&STREETS), random.between(1, 180)));
        address.string("city", city);
        address.string("zip", &filled(&mut random, postcode));
        address.string("country", country);
    });
}

fn email(random: &mut Random, first: &str, last: &str, number: u64) -> String {
    let ascii = |name: &str| name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    let host = random.pick(&["example.com", "example.org", "mail.example.net", "post.example.eu"]);
    format!("{}.{}{number}@{host}", ascii(first), ascii(last))
}

/// The pattern with a digit for each `9` and a letter for each `A`.
fn filled(random: &mut Random, pattern: &str) -> String {
    let fill = |mark| match mark {
        '9' => char::from(b'0' + random.below(10) as u8),
        'A' => char::from(b'A' + random.below(26) as u8),
        other => other,
    };
    pattern.chars().map(fill).collect()
}

/// Writes one item and returns what it costs, in cents.
fn write_item(random: &mut Random, items: &mut Elements<'_>) -> u64 {
    let product = random.skewed_below(PRODUCTS.len() as u64);
    let (name, cents) = PRODUCTS[product as usize];
    let quantity = 1 + random.skewed_below(6);
    let sku = format!("SKU-{:04}-{}", 1_000 + product, random.pick(&COLOURS));
    let tags = distinct_tags(random);
    items.document(|item| {
        item.string("sku", &sku);
        item.string("name", name);
        item.int32("quantity", quantity as i32);
        write_money(item, "price", cents);
        // No tags: an empty array to one program that writes orders, no array to another.
        if !tags.is_empty() || random.percent(50) {
            item.array("tags", |elements| tags.iter().for_each(|tag| elements.string(tag)));
        }
    });
    cents * quantity
}

/// No tag to four, as likely as each other.
fn distinct_tags(random: &mut Random) -> Vec<&'static str> {
    let count = random.below(5) as usize;
    let mut tags = Vec::with_capacity(count);
    while tags.len() < count {
        let tag = random.pick_skewed(&ITEM_TAGS);
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    tags
}

/// As programs in JavaScript do it: a sum that happens to be whole is stored as an int32.
fn write_money(fields: &mut Fields<'_>, name: &str, cents: u64) {
    if cents.is_multiple_of(100) {
        fields.int32(name, (cents / 100) as i32);
    } else {
        fields.double(name, cents as f64 / 100.0);
    }
}
