//! make and gcc: a program of two sources and a library, in parallel, changed and made again.

use crate::scene::{Scene, present};

fn sources(scene: &Scene) {
    scene.put(
        "Makefile",
        "CFLAGS = -O1 -Wall\nall: program library.so\nprogram: main.o twice.o\n\tcc -o $@ $^\n\
         library.so: twice.c\n\tcc -shared -fPIC -o $@ $<\n%.o: %.c twice.h\n\tcc $(CFLAGS) -c -o $@ $<\n\
         check: program\n\t./program\nclean:\n\trm -f *.o program library.so\n.PHONY: all check clean\n",
    );
    scene.put("twice.h", "int twice(int);\n");
    scene.put("twice.c", "#include \"twice.h\"\nint twice(int n) { return 2 * n; }\n");
    scene.put(
        "main.c",
        "#include <stdio.h>\n#include \"twice.h\"\nint main(void) { FILE *f = fopen(\"out.txt\", \"w\");\n\
         fprintf(f, \"%d\\n\", twice(21)); fclose(f); puts(\"ran\"); return 0; }\n",
    );
}

const MADE: &str = "make -s -j3 && make -q && make -s check && cat out.txt && touch twice.h && make -s -j2 &&
ar rcs libtwice.a twice.o && nm --defined-only libtwice.a && cc -static -o fixed main.c -L. -ltwice && ./fixed &&
cc -fsyntax-only -Wall -x c - <<'END'
int wrong( {
END
echo $?; make -s clean; make -s nothing; echo $?";

#[test]
fn a_program_is_made_run_and_made_again() {
    if !present(&["/usr/bin/make", "/usr/bin/cc", "/usr/bin/ar"]) {
        return;
    }
    let ran = Scene::new().executing().same(sources, MADE);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(ran.out.starts_with("ran\n42\n") && ran.out.ends_with("1\n2\n"), "{ran:?}");
    assert!(ran.tree.contains_key("fixed") && !ran.tree.contains_key("program"), "{ran:?}");
}
