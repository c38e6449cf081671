//! Both servers with TLS, access control and client certificates, and all that can be wrong with those.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bson::{Document, doc};
use integration_tests::rig::{Gizer, Mongod, MongodTls, POSTGRES_USER, Postgres, Version};
use mongodb::Client;

use super::judge::judge;
use super::page::{block, run_in_mongosh, statements};

const PASSWORD: &str = "quince/with@odd:100%";

fn kept(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/security/tls").join(name)
}

struct Scene {
    mongod: Mongod,
    root: Client,
    postgres: Postgres,
}

impl Scene {
    async fn new() -> Scene {
        let tls = MongodTls { authority: kept("authority.pem"), server: kept("server.pem"), client: kept("gizer.pem") };
        let mongod = Mongod::builder(Version::V6_0).auth("root", PASSWORD).require_tls(tls).start();
        // Only the rig's own superuser gets in without TLS.
        let access = format!("host all {POSTGRES_USER} all scram-sha-256\n{}\n", block("pg-hba-scram"));
        let postgres = Postgres::builder()
            .data_file("server.pem", fs::read(kept("server.pem")).unwrap())
            .data_file("authority.pem", fs::read(kept("authority.pem")).unwrap())
            .data_file("pg_hba.conf", access)
            .setting("ssl", "on")
            .setting("ssl_cert_file", "server.pem")
            .setting("ssl_key_file", "server.pem")
            .setting("ssl_ca_file", "authority.pem")
            .start();
        let (mongod, postgres) = (mongod.await.unwrap(), postgres.await.unwrap());
        let root = mongod.client().await.unwrap();
        run_in_mongosh(&root, &statements("mongo-gizer", PASSWORD)).await;
        run_in_mongosh(&root, &block("mongo-x509")).await;
        postgres.create_database_named("app").await.unwrap();
        let admin = postgres.client("app").await.unwrap();
        admin.batch_execute(&statements("postgres-owner", PASSWORD)).await.unwrap();
        Scene { mongod, root, postgres }
    }

    /// gizer with a configuration of the page, and in its folder all files that it names.
    fn gizer(&self, name: &str, change: impl Fn(&str) -> String) -> Gizer {
        let gizer = Gizer::with_config("").unwrap().limit(Duration::from_secs(60));
        let folder = format!("{}/", gizer.folder().display());
        for pem in ["authority.pem", "other-authority.pem", "gizer.pem", "stranger.pem"] {
            write(&gizer.folder().join(pem), &fs::read_to_string(kept(pem)).unwrap());
        }
        for password in ["mongo.password", "postgres.password"] {
            write(&gizer.folder().join(password), &format!("{PASSWORD}\n"));
        }
        let text = block(name)
            .replace("mongo.example:27017", &self.mongod.host())
            .replace("postgres.example:5432", &format!("127.0.0.1:{}", self.postgres.port()));
        fs::write(gizer.config_path(), change(&text).replace("/etc/gizer/", &folder)).unwrap();
        gizer
    }

    async fn works(&self, gizer: &Gizer) {
        let orders = self.root.database("shop").collection::<Document>("orders");
        orders.delete_many(doc! {}).await.unwrap();
        orders.insert_many((1..50).map(|n| doc! { "_id": n, "lines": [{ "n": n }] })).await.unwrap();
        let done = async |args: &[&str]| drop(gizer.run(args).await.unwrap().expect_code(0));
        done(&["schema", "infer"]).await;
        done(&["load"]).await;
        orders.update_many(doc! {}, doc! { "$push": { "lines": { "n": 7 } } }).await.unwrap();
        orders.delete_one(doc! { "_id": 1 }).await.unwrap();
        done(&["sync"]).await;
        done(&["verify"]).await;
        done(&["status"]).await;
        let mut admin = self.postgres.client("app").await.unwrap();
        judge(&self.root.database("shop"), &mut admin, gizer, ("orders", "shop", false)).await.unwrap();
    }
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[tokio::test]
async fn both_servers_are_reached_by_tls_with_passwords_and_with_certificates() {
    let scene = Scene::new().await;
    scene.works(&scene.gizer("config-scram", str::to_owned)).await;
    what_is_wrong_is_told(&scene).await;

    let admin = scene.postgres.client("app").await.unwrap();
    let access: String = admin.query_one("SHOW hba_file", &[]).await.unwrap().get(0);
    let text = fs::read_to_string(&access).unwrap().replace(&block("pg-hba-scram"), &block("pg-hba-cert"));
    fs::write(&access, text).unwrap();
    admin
        .batch_execute("SELECT pg_reload_conf(); ALTER ROLE gizer PASSWORD NULL; DROP SCHEMA shop CASCADE")
        .await
        .unwrap();
    admin.batch_execute("CREATE SCHEMA shop AUTHORIZATION gizer").await.unwrap();
    scene.root.database("admin").run_command(doc! { "dropUser": "gizer" }).await.unwrap();
    scene.works(&scene.gizer("config-x509", str::to_owned)).await;
    // The certificate's own name is not enough: its authority has to be the server's.
    let stranger = scene.gizer("config-x509", |text| text.replace("gizer/gizer.pem", "gizer/stranger.pem"));
    told(&stranger, &["status"], 1, &["sslcert"]).await;
}

/// A message with these words and no secret in it.
async fn told(gizer: &Gizer, args: &[&str], code: i32, words: &[&str]) {
    let finished = gizer.run(args).await.unwrap().expect_code(code);
    for word in words.iter().chain(&["help: "]) {
        assert!(finished.stderr.contains(word), "{word:?} is not in\n{}", finished.stderr);
    }
    for secret in ["quince", "PRIVATE", "MIG"] {
        assert!(!(finished.stderr.clone() + &finished.stdout).contains(secret), "{finished:?}");
    }
}

/// What is changed in the configuration of the page: the text, and what takes its place.
type Change = (&'static str, &'static str);

/// A change, how gizer ends, and what it says.
type Case = (Change, i32, &'static [&'static str]);

/// Nobody waits for 8 seconds to hear of the same again.
const SOON: &str = "replicaSet=rs0&serverSelectionTimeoutMS=1000";

async fn what_is_wrong_is_told(scene: &Scene) {
    let mongo: [Case; 9] = [
        (
            ("tlsCAFile=/etc/gizer/authority", "tlsCAFile=/etc/gizer/other-authority"),
            1,
            &["UnknownIssuer", "tlsCAFile=/"],
        ),
        (
            ("@127.0.0.1", "@localhost"),
            1,
            &["not valid for name \"localhost\"", "use the host name of the server's certificate in the URI"],
        ),
        (("&tlsCertificateKeyFile=/etc/gizer/gizer.pem", ""), 1, &["tlsCertificateKeyFile=/"]),
        (("KeyFile=/etc/gizer/gizer", "KeyFile=/etc/gizer/stranger"), 1, &["tlsCertificateKeyFile=/"]),
        (
            ("&tls=true&tlsCAFile=/etc/gizer/authority.pem&tlsCertificateKeyFile=/etc/gizer/gizer.pem", ""),
            1,
            &["tls=true"],
        ),
        (("&tlsCAFile=/etc/gizer/authority.pem", ""), 1, &["UnknownIssuer", "tlsCAFile=/"]),
        (
            ("tlsCAFile=/etc/gizer/authority", "tlsCAFile=/etc/gizer/no-such"),
            2,
            &["no-such.pem: No such file", "check tlsCAFile"],
        ),
        (("KeyFile=/etc/gizer/gizer", "KeyFile=/etc/gizer/authority"), 2, &["expected a private key in PEM"]),
        (("\"mongo.password\"", "\"authority.pem\""), 2, &["expected one line with the password"]),
    ];
    for ((from, to), code, words) in mongo {
        // The set knows its member by another name than this.
        let direct = if to.contains("localhost") {
            SOON.replace("replicaSet=rs0", "directConnection=true")
        } else {
            SOON.to_owned()
        };
        let change = |text: &str| {
            assert!(text.contains(from), "{from}");
            text.replacen(from, to, 1).replace("replicaSet=rs0", &direct)
        };
        let host =
            if to.contains("localhost") { format!("localhost:{}", scene.mongod.port()) } else { scene.mongod.host() };
        let words: Vec<&str> =
            words.iter().copied().chain((!words[0].contains("one line")).then_some(host.as_str())).collect();
        told(&scene.gizer("config-scram", change), &["schema", "infer"], code, &words).await;
    }
    let postgres: [Case; 10] = [
        (
            ("sslrootcert=/etc/gizer/authority", "sslrootcert=/etc/gizer/other-authority"),
            1,
            &["UnknownIssuer", "sslrootcert=/"],
        ),
        (("gizer@127.0.0.1", "gizer@localhost"), 1, &["not valid for name \"localhost\"", "name the host"]),
        (("&sslcert=/etc/gizer/gizer.pem&sslkey=/etc/gizer/gizer.pem", ""), 1, &["client certificate", "sslcert"]),
        (
            (
                "sslcert=/etc/gizer/gizer.pem&sslkey=/etc/gizer/gizer.pem",
                "sslcert=/etc/gizer/stranger.pem&sslkey=/etc/gizer/stranger.pem",
            ),
            1,
            &["sslcert=/"],
        ),
        (
            (
                "sslmode=verify-full&sslrootcert=/etc/gizer/authority.pem&sslcert=/etc/gizer/gizer.pem&sslkey=/etc/gizer/gizer.pem",
                "sslmode=disable",
            ),
            1,
            &["pg_hba.conf", "sslmode=verify-full"],
        ),
        (
            ("sslcert=/etc/gizer/gizer.pem", "sslcert=/etc/gizer/stranger.pem"),
            2,
            &["sslcert /", "the key that was made for it"],
        ),
        (("sslrootcert=/etc/gizer/authority", "sslrootcert=/etc/gizer/no-such"), 2, &["no-such.pem: No such file"]),
        (("sslkey=/etc/gizer/gizer", "sslkey=/etc/gizer/authority"), 2, &["expected a private key in PEM"]),
        (("postgres.password", "no.password"), 2, &["no.password: No such file"]),
        (("&sslkey=/etc/gizer/gizer.pem", ""), 2, &["sslcert and sslkey go together"]),
    ];
    for ((from, to), code, words) in postgres {
        let change = |text: &str| {
            let (mongo, postgres) = text.split_once("[postgres]").unwrap();
            assert!(postgres.contains(from), "{from}");
            format!("{mongo}[postgres]{}", postgres.replacen(from, to, 1))
        };
        let gizer = scene.gizer("config-scram", change);
        let port = format!(":{}/app", scene.postgres.port());
        let before_the_server = ["no.password", "go together"].iter().any(|word| words[0].contains(word));
        let words: Vec<&str> = words.iter().copied().chain((!before_the_server).then_some(port.as_str())).collect();
        told(&gizer, &["status"], code, &words).await;
    }
    // What the certificate is for does not matter here.
    let less = |text: &str| text.replace("gizer@127.0.0.1:", "gizer@localhost:").replace("verify-full", "verify-ca");
    scene.gizer("config-scram", less).run(["status"]).await.unwrap().expect_code(0);
    // A key that others may read is not used, as with libpq.
    let gizer = scene.gizer("config-scram", str::to_owned);
    fs::set_permissions(gizer.folder().join("gizer.pem"), fs::Permissions::from_mode(0o644)).unwrap();
    told(&gizer, &["status"], 2, &["that others may read", "chmod 600"]).await;
    let warned = gizer.run(["schema", "infer", "--force"]).await.unwrap().expect_code(0).stderr;
    assert!(warned.contains("gizer.pem holds a private key, and others may read or change it"), "{warned}");
    // Wrong passwords, over TLS.
    let gizer = scene.gizer("config-scram", str::to_owned);
    for (file, command) in [("mongo.password", &["schema", "infer"][..]), ("postgres.password", &["status"])] {
        write(&gizer.folder().join(file), "quincetree");
        told(&gizer, command, 1, &["127.0.0.1:", "refused", "password_file"]).await;
    }
}
