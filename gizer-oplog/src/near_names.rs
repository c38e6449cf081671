//! Similar names for "did you mean".

const MAX_SUGGESTIONS: usize = 3;

/// Names similar to `wanted`, the most similar first.
pub(crate) fn near_names<'n>(wanted: &str, names: impl IntoIterator<Item = &'n str>) -> Vec<String> {
    let folded = wanted.to_lowercase();
    let mut near: Vec<(usize, &str)> = names
        .into_iter()
        .filter_map(|name| likeness(&folded, &name.to_lowercase()).map(|distance| (distance, name)))
        .collect();
    near.sort_unstable();
    near.dedup();
    near.into_iter().take(MAX_SUGGESTIONS).map(|(_, name)| name.to_owned()).collect()
}

/// Distance of two names; `None` if too far for a typo.
fn likeness(wanted: &str, name: &str) -> Option<usize> {
    let distance = strsim::levenshtein(wanted, name);
    let slips = (wanted.chars().count() / 3).max(1);
    // A prefix is often a singular or a part that was left out.
    let extends = wanted.len() >= 3 && name.len() >= 3 && (name.starts_with(wanted) || wanted.starts_with(name));
    (distance <= slips || extends).then_some(distance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_case_and_parts_left_out_are_near() {
        let names = ["orders", "order_items", "customers", "posts", "Orders2"];
        assert_eq!(near_names("oders", names), ["orders"]);
        assert_eq!(near_names("ORDERS", names), ["orders", "Orders2"]);
        assert_eq!(near_names("order", names), ["orders", "Orders2", "order_items"]);
        assert_eq!(near_names("stock", names), Vec::<String>::new());
        assert_eq!(near_names("", names), Vec::<String>::new());
    }
}
