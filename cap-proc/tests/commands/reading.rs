//! Reading past the door, where no rule hides anything: who reads there is not asked about, who changes anything is.

use crate::door::lines;
use crate::support::*;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use warden_proto::msg::fs::RuleKind::{self, Deny, DenyWrite};
use warden_proto::msg::fs::WorkspaceSetup;
use warden_proto::msg::proc::Wish;

/// One writable workspace with a file that may be read only, an ordinary one, and a FIFO, which the door opens for nobody.
fn helper(workspace: WorkspaceSetup, namespaces: Wish) -> Helper {
    let helper = Helper::with(Options { workspaces: vec![workspace], namespaces, ..Options::default() });
    let root = helper.root.path().join("w0");
    for (name, text) in [("Makefile", "all:"), ("plain", "plain")] {
        std::fs::write(root.join(name), text).unwrap();
    }
    mkfifo(&root.join("fifo"), Mode::from_bits_truncate(0o600)).unwrap();
    helper
}

fn with(rules: &[(&str, RuleKind)]) -> WorkspaceSetup {
    workspace(0, true, rules)
}

const READS: &str = "t(read, 'Makefile')\nt(os.open, 'fifo', os.O_RDONLY | os.O_NONBLOCK)\n";

#[test]
fn reading_passes_the_door_where_nothing_is_hidden_and_only_there() {
    let by_itself = ["all:", "ok"];
    let by_its_keeper = ["all:", "EACCES"];
    let ruled = || with(&[("Makefile", DenyWrite)]);
    lines(&mut helper(ruled(), Wish::Require), READS, &by_itself);
    lines(&mut helper(ruled(), Wish::Off), READS, &by_its_keeper);
    lines(&mut helper(with(&[("secret", Deny)]), Wish::Require), READS, &by_its_keeper);
    let no_links = WorkspaceSetup { symlinks: false, ..ruled() };
    lines(&mut helper(no_links, Wish::Require), READS, &by_its_keeper);
}

/// T-02: an open is told apart by its flags, so each flag that changes anything is tried, and each other call.
#[test]
fn who_reads_by_itself_changes_nothing_by_itself() {
    let mut helper = helper(with(&[("Makefile", DenyWrite)]), Wish::Require);
    let code = "import ctypes, mmap, struct\n\
                c = ctypes.CDLL(None, use_errno=True)\n\
                def call(*a):\n\
                \x20   n = c.syscall(*(ctypes.c_long(x) if isinstance(x, int) else x for x in a))\n\
                \x20   if n < 0: raise OSError(ctypes.get_errno(), '')\n\
                def each(f):\n\
                \x20   for flags in [os.O_WRONLY, os.O_RDWR, os.O_ACCMODE, os.O_TRUNC, os.O_APPEND | os.O_WRONLY, (1 << 32) | os.O_RDWR]:\n\
                \x20       t(call, 257, -100, f.encode(), flags, 0)\n\
                \x20   t(call, 2, f.encode(), os.O_RDWR, 0)\n\
                \x20   t(call, 85, f.encode(), 0)\n\
                \x20   how = struct.pack('QQQ', os.O_RDWR, 0, 0)\n\
                \x20   t(call, 437, -100, f.encode(), how, len(how))\n\
                \x20   r = os.open(f, os.O_RDONLY)\n\
                \x20   t(os.open, f'/proc/self/fd/{r}', os.O_WRONLY)\n\
                \x20   t(os.truncate, f, 1)\n\
                \x20   t(os.ftruncate, r, 1)\n\
                \x20   t(lambda: len(mmap.mmap(r, 1)))\n";
    let denied = ["EACCES"; 11].into_iter().chain(["EINVAL", "EACCES"]);
    lines(&mut helper, &format!("{code}each('Makefile')\n"), &denied.collect::<Vec<_>>());
    // The control: what belongs to no rule is opened in all of these ways. Cut, it has no byte left to map, so it is filled.
    let allowed = ["ok"; 11].into_iter().chain(["EINVAL", "EACCES"]);
    lines(&mut helper, &format!("{code}each('plain')\n"), &allowed.collect::<Vec<_>>());
    let code = "t(os.open, '.', os.O_TMPFILE | os.O_RDWR)\nt(os.open, '.', os.O_DIRECTORY)\nt(os.open, 'new', os.O_CREAT)\n\
                t(write, 'new')\nt(os.unlink, 'Makefile')\nt(os.rename, 'new', 'Makefile')\nt(os.unlink, 'new')\nt(read, 'Makefile')\n";
    let expected = ["ENOTSUP", "ok", "ok", "ok", "EACCES", "EACCES", "ok", "all:"];
    lines(&mut helper, code, &expected);
}

/// T-01: a grant to read is one for the workspace and nothing else.
#[test]
fn who_reads_by_itself_reads_no_more_than_before() {
    let mut helper = helper(with(&[("Makefile", DenyWrite)]), Wish::Require);
    let code = "t(read, '/etc/shadow')\nt(os.listdir, '..')\nt(lambda: len(os.listdir('.')))\n\
                os.symlink('/etc/shadow', 'link')\nt(read, 'link')\nt(read, '/proc/1/environ')\nt(read, 'plain')\n\
                t(os.execv, './plain', ['plain'])\n";
    lines(&mut helper, code, &["ENOENT", "EACCES", "ok", "ENOENT", "EACCES", "plain", "EACCES"]);
}
