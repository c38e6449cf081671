//! Products: how often each was looked at and sold, by day. The days are field names, so that it is a map.

use bson::DateTime;

use super::Kind;
use super::bytes::{Fields, document};
use super::orders::OPENED;
use super::words::PRODUCTS;
use crate::random::Random;

const DAY_MILLIS: i64 = 86_400_000;

/// The first days of the shop.
const DAYS: i64 = 60;

/// Appends the product with this number, counted from 0.
pub(super) fn write(seed: u64, number: u64, bytes: &mut Vec<u8>) {
    let mut random = Random::of(seed, Kind::Product as u64, number);
    let (name, _) = PRODUCTS[(number % PRODUCTS.len() as u64) as usize];
    document(bytes, |product| {
        product.string("_id", &format!("SKU-{:04}", 1_000 + number));
        product.string("name", name);
        product.document("daily", |daily| {
            for day in 0..DAYS {
                if random.percent(60) {
                    write_day(&mut random, day, daily);
                }
            }
        });
    });
}

/// People look at weekends. On some days nothing is sold.
fn write_day(random: &mut Random, day: i64, daily: &mut Fields<'_>) {
    let time = DateTime::from_millis(OPENED + day * DAY_MILLIS).try_to_rfc3339_string();
    let time = time.expect("a day of the shop has a year of four digits");
    let date = time.split('T').next().unwrap_or_default();
    // The first one was a Wednesday.
    let is_weekend = (day + 2) % 7 >= 5;
    let views = 1 + random.skewed_below(if is_weekend { 120 } else { 60 });
    let sold = random.skewed_below(1 + views / 4);
    daily.document(date, |fields| {
        fields.int32("views", views as i32);
        if sold > 0 {
            fields.int32("sold", sold as i32);
        }
    });
}
