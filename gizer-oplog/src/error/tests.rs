use super::*;

fn hosts() -> Hosts {
    Hosts::new(["db:27017"])
}

#[test]
fn messages_say_what_was_expected_what_came_and_where() {
    let error = MongoError::TooOld { hosts: hosts(), version: "4.2.8".into() };
    assert_eq!(error.to_string(), "expected MongoDB 4.4 or later at db:27017, found 4.2.8");
    let near = vec!["orders".to_owned(), "order".to_owned()];
    let error =
        MongoError::NoSuchCollection { hosts: hosts(), database: "shop".into(), collection: "ordrs".into(), near };
    assert_eq!(
        error.to_string(),
        r#"expected a collection "ordrs" in database "shop" at db:27017, found none; did you mean "orders" or "order"?"#
    );
}

#[test]
fn a_remedy_names_the_role_and_notices_a_uri_without_a_user() {
    let refused = |authenticated| MongoError::NoRights {
        hosts: hosts(),
        command: "find",
        namespace: "local.oplog.rs".into(),
        role: "role read on database \"local\"".into(),
        authenticated,
    };
    assert_eq!(refused(true).remedy().unwrap(), "grant the user role read on database \"local\"");
    assert!(refused(false).remedy().unwrap().starts_with("the URI names no user"));
}

#[test]
fn only_a_lost_position_makes_a_load_due() {
    let saved = OplogPosition::default();
    let oldest = ClusterTime { seconds: 9, increment: 1 };
    assert_eq!(MongoError::RolledOver { shard: "a".into(), saved, oldest }.class(), ErrorClass::LoadDue);
    assert_eq!(MongoError::Diverged { shard: "a".into(), saved }.class(), ErrorClass::LoadDue);
    let lags = MongoError::MemberLags { shard: "a".into(), saved, newest: oldest };
    assert_eq!(lags.class(), ErrorClass::Failed);
    assert!(lags.is_transient());
}

/// As 4.4 says for a moment after it has started.
#[test]
fn a_member_that_has_just_started_is_asked_again() {
    let refused = |code| MongoError::Server {
        hosts: hosts(),
        command: "find",
        namespace: "local.oplog.rs".into(),
        code,
        code_name: String::new(),
        message: String::new(),
    };
    assert!(refused(94).is_transient());
    assert!(!refused(2).is_transient());
}
