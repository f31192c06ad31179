use super::*;

#[test]
fn the_hash_is_of_what_is_said_and_not_how() {
    let hash = |policy: Policy| Effective::combine(None, Some(policy), None).unwrap().hash().to_owned();
    let toml = policy("[limits]\nsteps = 3\nfuel = 1_000\n");
    let yaml =
        Policy::parse("limits: {fuel: 1000, steps: 3}\nversion: 1\n", Format::Yaml, "other.yaml", Path::new("/base"))
            .unwrap();
    assert_eq!(hash(toml.clone()), hash(yaml));
    assert_ne!(hash(toml), hash(policy("[limits]\nsteps = 3\nfuel = 1_001\n")));
    assert_eq!(hash(policy("")).len(), 64);
}

#[test]
fn what_is_shown_reads_back_as_the_same_policy() {
    let text = include_str!("../../parse/documented.toml");
    let policy = Policy::parse(text, Format::Toml, "warden.toml", Path::new("/base")).unwrap();
    let again = Policy::parse(&policy.to_toml(), Format::Toml, "again", Path::new("/")).unwrap();
    assert_eq!(policy.to_json(), again.to_json());
    let effective = Effective::combine(None, Some(policy), None).unwrap();
    let shown = Policy::parse(&effective.to_toml(), Format::Toml, "shown", Path::new("/")).unwrap();
    assert_eq!(effective.to_policy().to_json(), shown.to_json());
    assert_eq!(shown.workspaces.unwrap()[0].deny_write.len(), 1);
    assert_eq!(effective.to_json()["policy_hash"], effective.hash());
}

#[test]
fn no_rendering_holds_a_key() {
    let text = "[llm]\napi_key = \"very-secret-key\"\nmodel = \"m\"\n";
    let policy = Policy::parse(text, Format::Toml, "hostd.toml", Path::new("/base")).unwrap();
    let effective = Effective::combine(None, Some(policy), None).unwrap();
    for shown in [effective.to_toml(), effective.to_json().to_string(), format!("{effective:?}")] {
        assert!(!shown.contains("very-secret-key"));
    }
}
