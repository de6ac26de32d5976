# The converters behind scripts/corpus-debian, on small samples of every format, and the
# script itself with packages made here and an apt that knows no others. No network.
. "$ROOT/tests/cli/lib.sh"
for tool in perl gzip; do
    command -v $tool >/dev/null || skip "$tool is not on this machine: scripts/corpus-debian not tested"
done

man=root/usr/share/man/de/man1 html=root/usr/share/doc/probe-de/html/de
docbook=root/usr/share/doc/HTML/de/probe mallard=root/usr/share/help/de/probe
games=root/usr/share/games/fortunes/de
mkdir -p $man $html $docbook $mallard $games root/usr/share/man/man1

cat >page <<'END'
.\" a comment
.de XX
.B nie zu sehen
..
.ie \n(.g .ds Aq \(aq
.el       .ds Aq '
.if n \{\
.nh
.\}
.TH PROBE 1 "Mai 2024"
.SH BEZEICHNUNG
probe \- pr\(:uft Gr\[u00F6]\[ss]en
.SH \(:UBERSICHT
\fBprobe\fP [\fI\,OPTION\/\fP] weg mit dem Aufruf
.SH BESCHREIBUNG
Der Befehl \fBprobe\fP pr\[:u]ft Dateien
und \(Bqmeldet\(lq sie.
.nf
probe \-\-code faellt weg
.fi
.TP
\fB\-q\fR, \fB\-\-quiet\fR
meldet \*(lqnichts\*(rq in \fC/etc/pr\&obe.d\fP.
.TP
.B Ein Name aus vier Teilen
steht auf eigener Zeile.
.IP \(bu 2
ein Punkt, siehe
.BR cp (1),
.UR https://example.org
die Seite
.UE .
.TS
l l.
Tabelle	weg
.TE
.PP
Rückschritt \e und \-x bleiben; E-Mail an Eva Muster <eva@example.org>.
END
gzip -n <page >$man/probe.1.gz
ln -s probe.1.gz $man/gleich.1.gz
echo '.so man1/probe.1' >$man/verweis.1
echo '.TH ENGLISH 1' >root/usr/share/man/man1/english.1
cat >$man/mdoc.1 <<'END'
.Dd May 1, 2024
.Dt MDOC 1
.Os
.Sh BESCHREIBUNG
Das Programm
.Nm
liest
.Ar Datei ,
siehe
.Xr cat 1 .
.Bd -literal
weg damit
.Bd -filled
und weg
.Ed
immer noch
.Ed
Danach geht es
.Dq gut lesbar
weiter.
END
printf '%s\n' '<!DOCTYPE html><html><head><title>Gr&ouml;&szlig;e</title><style>p{}</style></head>' \
    '<body><nav>Weg</nav><div class="navheader"><div>weg</div> weg</div>' \
    '<h1>&Uuml;ber <em>Stra&#223;en</em>&nbsp;und&#x20;H&auml;user</h1>' '<!-- <p>weg</p> -->' \
    '<p>Ein Absatz' 'über mehrere   Zeilen mit <code>Wort</code> &amp; &lt;Klammer&gt;.</p>' \
    '<ul><li><a href="a.html">Nur ein Verweis</a></li><li>Mit <a href="b">Verweis</a> im Satz.</li></ul>' \
    '<table><tr><td>kurz</td><td>Diese Zelle enthält einen ganzen Satz.</td></tr></table>' \
    '<pre>weg();</pre><script>if (a < b) weg();</script><div class="highlight-c"><p>weg</p></div>' \
    "<p>Weicher Um&shy;bruch<sup class=\"footnote\">[1]</sup> und <br>neue Zeile</p></body></html>" >$html/a.html
printf '<html><title>alt</title><body><p>Alte Seite: Gr\374\337e f\374r 5 \200</p></body></html>' >$html/latin.html
cat >$docbook/index.docbook <<'END'
<?xml version="1.0" ?>
<!DOCTYPE book [ <!ENTITY probe "<application>Probe</application>"> ]>
<book><bookinfo><title>Das Buch</title><para>weg</para></bookinfo>
<chapter><title>Anfang</title><para>Mit &probe;
beginnt <guilabel>alles</guilabel>.</para><screen>weg</screen></chapter></book>
END
cat >$mallard/seite.page <<'END'
<page xmlns="http://projectmallard.org/1.0/"><info><desc>weg</desc></info><title>Eine Seite</title>
<p>Satz mit <code>Wort</code>.</p><code>weg</code><steps><item><p>Erst dies tun.</p></item></steps></page>
END
cat >$games/sprueche <<'END'
Ein langer Satz, der am Ende der Zeile am Bildschirm umgebrochen
wurde und darum wieder zu einer Zeile gehört.
		-- Anna Autor
%
Reim dich,
oder ich fress dich.
%
%
END
touch $games/sprueche.dat
find root -exec touch -h -d 2024-05-01T00:00:00Z {} +

# field NAME: that field of every document, without jq
run 0 "$ROOT/scripts/corpus-documents" de probe-de 1.0 root
cp out documents
says err "8 documents "
field() { perl -ne 'print "$1\n" if /"'"$1"'": ("(?:[^"\\]|\\.)*"|[^,}]*)/' documents; }

cat >expected <<'END'
"Anfang\nMit Probe beginnt alles."
"Über Straßen und Häuser\nEin Absatz über mehrere Zeilen mit Wort & <Klammer>.\nMit Verweis im Satz.\nDiese Zelle enthält einen ganzen Satz.\nWeicher Umbruch und\nneue Zeile"
"Alte Seite: Grüße für 5 €"
"Ein langer Satz, der am Ende der Zeile am Bildschirm umgebrochen wurde und darum wieder zu einer Zeile gehört.\n-- Anna Autor"
"Reim dich,\noder ich fress dich."
"Eine Seite\nSatz mit Wort.\nErst dies tun."
"BESCHREIBUNG\nDas Programm mdoc liest Datei, siehe cat(1).\nDanach geht es „gut lesbar“ weiter."
"BEZEICHNUNG\nprobe - prüft Größen\nBESCHREIBUNG\nDer Befehl probe prüft Dateien und „meldet“ sie.\nmeldet “nichts” in /etc/probe.d.\nEin Name aus vier Teilen\nsteht auf eigener Zeile.\nein Punkt, siehe cp(1), die Seite.\nRückschritt \\ und -x bleiben; E-Mail an Eva Muster."
END
field raw_content >texts
diff expected texts || fail "the texts differ (< expected, > converted)"

cat >expected <<'END'
{"url": "deb://probe-de/usr/share/games/fortunes/de/sprueche#2", "date_download": "2024-05-01T00:00:00Z", "digest": "sha1:3I4DF2XDAKNGEA6HTOA3QBDGFSWIDS4P", "length": 31, "nlines": 2, "source_domain": "probe-de", "title": "", "raw_content": "Reim dich,\noder ich fress dich.", "cc_segment": "probe-de_1.0", "original_nlines": 2, "original_length": 32, "line_ids": [0, 1], "language": "de", "language_score": null, "perplexity": null, "bucket": "head"}
END
grep Reim documents >line
diff expected line || fail "the fields of a document differ"
field title >titles
printf '"%s"\n' 'Das Buch' 'Größe' alt '' '' 'Eine Seite' 'MDOC(1)' 'PROBE(1)' | diff - titles ||
    fail "the titles differ"
if command -v jq >/dev/null; then
    run 0 jq -e '.length == (.raw_content | length) and .nlines == (.raw_content | split("\n") | length)
        and .original_length == (.title + "\n" + .raw_content | utf8bytelength)' documents
else
    echo "skipped: jq is absent, lengths not recounted"
fi

# A label other than de takes what the German run leaves.
mkdir -p other/usr/share/games/fortunes
printf 'One.\n%%\nTwo.\n' >other/usr/share/games/fortunes/words
run 0 "$ROOT/scripts/corpus-documents" xx words 1 other
says err "2 documents 8 bytes"
says out '"language": "xx"'
run 0 "$ROOT/scripts/corpus-documents" de words 1 other
says err "0 documents 0 bytes"
run 2 "$ROOT/scripts/corpus-documents" de
run 1 "$ROOT/scripts/corpus-documents" de probe 1 nowhere
says err "corpus-documents: no folder nowhere"

# The script: two packages in the cache, the rest unknown to apt.
run 2 "$ROOT/scripts/corpus-debian"
run 0 "$ROOT/scripts/corpus-debian" --help
says out "usage: scripts/corpus-debian OUT"
command -v dpkg-deb >/dev/null || skip "dpkg-deb is not on this machine: scripts/corpus-debian itself not tested"
export XDG_CACHE_HOME="$PWD/a cache"
packages="$XDG_CACHE_HOME/mundwerk/debian/packages"
mkdir -p "$packages" tools
package() { # NAME FOLDER: a .deb of the folder, in the cache
    mkdir "$2/DEBIAN"
    printf 'Package: %s\nVersion: 1:2.0\nArchitecture: all\nMaintainer: x\nDescription: x\n' "$1" >"$2/DEBIAN/control"
    dpkg-deb --root-owner-group -b "$2" "$packages/$1_2.0_all.deb" >/dev/null || fail "no package $1"
}
package manpages-de root
package fortunes-min other
printf '#!/bin/sh\necho "E: Unable to locate package" >&2\nexit 100\n' >tools/apt-get
chmod +x tools/apt-get
PATH="$PWD/tools:$PATH"
run 0 "$ROOT/scripts/corpus-debian" "the corpus"
says err "de: manpages-de 1:2.0, "
says err "skipped: gosa-help-de is not in this distribution"
says err "xx: fortunes-min 1:2.0, 2 documents"
de=$(echo "the corpus"/documents/*/0000/de_head.json.gz)
xx=$(echo "the corpus"/documents/*/0010/xx_head.json.gz)
gzip -dc "$xx" >xx
says xx '"cc_segment": "fortunes-min_1:2.0"'
cp "$de" before
if command -v mundwerk >/dev/null; then # the reader of all this finds nothing wrong with it
    run 0 mundwerk data prepare --in "the corpus/documents" --out prepared
    says prepared/ledger.json '"lines_in": 10,'
    says prepared/ledger.json '"malformed_json": 0'
    says prepared/ledger.json '"missing_text": 0'
    says prepared/ledger.json '"language": 2,'
else
    echo "skipped: bin/mundwerk is not built, the documents were not read back"
fi

run 0 "$ROOT/scripts/corpus-debian" "the corpus"
says err "corpus is there: "
rm "$de"
run 0 "$ROOT/scripts/corpus-debian" "the corpus"
same "$de" before

rm -r "the corpus"
echo damage >"$packages/manpages-de_2.0_all.deb"
run 1 "$ROOT/scripts/corpus-debian" "the corpus"
says err "manpages-de_2.0_all.deb is damaged: remove it, then run this again"
rm "$packages/manpages-de_2.0_all.deb"
run 1 "$ROOT/scripts/corpus-debian" "the corpus"
says err "cannot fetch package lists: Unable to locate package; check the network"
[ ! -e "the corpus/sources.tsv" ] || fail "a failed run looks whole"
