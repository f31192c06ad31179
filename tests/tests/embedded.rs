//! The broker as a library: several tasks in one, and what its spawner does over a longer life.

use serde_json::{Value, json};
use warden_tests::{Place, Ran, Running, log};

fn embedder(place: &Place, what: &str) -> Ran {
    Running::of(place.embedder(what)).end()
}

/// T-11: two tasks of one broker share its spawner, its log and nothing else: the same numbers of handles name different
/// files, the other's workspace is nowhere, and each one's output is its own.
#[test]
fn two_tasks_of_one_broker_see_nothing_of_each_other() {
    let place = Place::of_user();
    for (name, word) in [("one", "ONE"), ("two", "TWO")] {
        place.folder_of_task(name, 0o755);
        place.put(&format!("{name}/own.txt"), word);
    }
    let seen = embedder(&place, "two-tasks").object();
    for (own, other) in [("one", "two"), ("two", "one")] {
        let results = seen[own]["outcome"]["results"].as_array().unwrap_or_else(|| panic!("{seen}"));
        assert!(results[1].get("ok").is_some() && results[2].get("ok").is_some(), "{results:?}");
        assert_eq!(results[3]["error"]["code"], "denied", "{results:?}");
        let actions = results[5]["ok"]["data"]["actions"].as_array().unwrap_or_else(|| panic!("{results:?}"));
        for refused in &actions[..2] {
            assert_eq!(refused["error"]["code"], "denied", "{refused}");
        }
        let word = own.to_uppercase();
        assert_eq!(actions[2]["output"]["contents"], json!(word), "the control: its own");
        let described = &results[6]["ok"];
        assert!(
            described.to_string().contains(own) && !described.to_string().contains(&format!("\"{other}")),
            "{described}"
        );
        assert_eq!(results[7]["ok"]["text"], json!(word), "{results:?}");
        assert!(!seen[own].to_string().contains(&other.to_uppercase()), "{}", seen[own]);
        assert_eq!(seen[format!("said_{own}")], json!(own.repeat(300)));
    }
    // The log is one, and says whose each record is.
    let readers = |id: &str| {
        let all = log::of(&place, "fs.read_file");
        all.into_iter()
            .filter(|record| record["task"] == id)
            .map(|record| record["result"].to_string())
            .collect::<Vec<_>>()
    };
    let (one, two) = (readers(&"01".repeat(16)).concat(), readers(&"02".repeat(16)).concat());
    assert!(one.contains("ONE") && !one.contains("TWO"), "{one}");
    assert!(two.contains("TWO") && !two.contains("ONE"), "{two}");
    log::verify_complete(&place);
}

/// T-03: workers share their template's address layout, so one template serves only so many. The one that is replaced goes;
/// its workers live on.
#[test]
fn a_template_is_replaced_after_its_bound_of_forks() {
    let place = Place::of_user();
    let seen = embedder(&place, "template-bound").object();
    let templates: Vec<Vec<i64>> =
        serde_json::from_value(seen["templates"].clone()).unwrap_or_else(|e| panic!("{e}: {seen}"));
    assert!(templates.len() == 7 && templates.iter().all(|now| now.len() == 1), "one at a time: {templates:?}");
    let order: Vec<i64> = templates.iter().map(|now| now[0]).collect();
    let [a, b, c] = [order[0], order[3], order[6]];
    assert_eq!(order, [a, a, a, b, b, b, c], "{templates:?}");
    assert!(a != b && b != c && a != c, "{templates:?}");
    assert_eq!(seen["alive"], Value::from(vec![true; 7]));
}
