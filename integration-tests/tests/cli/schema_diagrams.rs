//! `gizer schema diagram` and `gizer schema json-schema`, without servers.

use integration_tests::rig::Gizer;
use serde_json::Value;

use super::place::assert_says;

fn with_orders() -> Gizer {
    let gizer = Gizer::with_config("").unwrap();
    let folder = gizer.folder().join("schemas");
    std::fs::create_dir_all(&folder).unwrap();
    let text = r#"{"$gizer": 1, "collection": "orders", "fields": {"_id": "INT", "items": [{"sku": "STRING"}]}}"#;
    std::fs::write(folder.join("orders.json"), text).unwrap();
    gizer
}

#[tokio::test]
async fn diagrams_are_drawn_in_three_forms() {
    let gizer = with_orders();
    let text = gizer.run(["schema", "diagram", "orders"]).await.unwrap().expect_code(0).stdout;
    assert!(text.starts_with("orders ┄") && text.contains("└─ sku  STRING ┄▸ │ │ sku"), "{text}");
    let mermaid = gizer.run(["schema", "diagram", "--as", "mermaid"]).await.unwrap().expect_code(0).stdout;
    assert!(mermaid.starts_with("erDiagram\n") && mermaid.contains("t0 ||--o{ t1 : \"items[]\""), "{mermaid}");
    let json = gizer.run(["schema", "diagram", "--as", "mermaid", "--format", "json"]).await.unwrap().expect_code(0);
    let report: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((report["as"].as_str(), report["diagram"].as_str()), (Some("mermaid"), Some(mermaid.as_str())));

    let path = gizer.folder().join("tables.html");
    let args = ["schema", "diagram", "--as", "html", "--output", path.to_str().unwrap()];
    assert_eq!(gizer.run(args).await.unwrap().expect_code(0).stdout, "");
    let page = std::fs::read_to_string(&path).unwrap();
    assert!(
        page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n") && page.contains("order_items"),
        "{page}"
    );
}

#[tokio::test]
async fn a_diagram_that_cannot_be_drawn_is_told() {
    let gizer = with_orders();
    assert_says(&gizer.run(["schema", "diagram", "nothing"]).await.unwrap(), 2, &["nothing has no schema file"]);
    let nowhere = ["schema", "diagram", "--output", "nowhere/at/all.txt"];
    assert_says(&gizer.run(nowhere).await.unwrap(), 1, &["cannot write nowhere/at/all.txt"]);
}

#[tokio::test]
async fn the_json_schema_is_one_object() {
    let gizer = Gizer::with_config("").unwrap();
    let printed = gizer.run(["schema", "json-schema"]).await.unwrap().expect_code(0).stdout;
    let schema: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema, gizer_schema::json_schema());
}
