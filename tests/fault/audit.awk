# Replays a strace log and demands that nothing is renamed while its bytes, or the entries
# of its folders, may still be lost with the power. Each fault is one line of output.
#
#   strace -y -e trace=openat,mkdir,write,pwrite64,fsync,rename,renameat2,unlink,rmdir …
#
# dirty[file]: written since its last fsync. entries[folder]: a name in it is newer than its
# last fsync. gone[folder]: an index was removed from it since.
function parent(p) { sub(/\/[^\/]*$/, "", p); return p }
function absolute(p) { return p ~ /^\// ? p : cwd "/" p }
function fd_path(line) { match(line, /<[^>]*>/); return substr(line, RSTART + 1, RLENGTH - 2) }
function quoted(line, n,    parts) { split(line, parts, "\""); return absolute(parts[2 * n]) }
function demand_clean(from,    p) {
    if (gone[parent(from)]) print "renamed while the removal of the old one is not synced: " from
    for (p in dirty)
        if (dirty[p] && index(p, from "/") == 1) print "renamed while not synced: " p
    for (p in entries)
        if (entries[p] && (p == from || index(p, from "/") == 1)) print "renamed while entries not synced: " p
}
function move(map, from, to,    p, list, n, i) {
    n = 0
    for (p in map) if (p == from || index(p, from "/") == 1) list[++n] = p
    for (i = 1; i <= n; i++) { map[to substr(list[i], length(from) + 1)] = map[list[i]]; delete map[list[i]] }
}
{ sub(/^[0-9]+ +/, "") }
/= -1 / { next }
/^openat\(/ && /O_CREAT/ && !/run\.lock"/ { p = quoted($0, 1); entries[parent(p)] = 1; next }
/^mkdir\(/ { p = quoted($0, 1); entries[parent(p)] = 1; next }
/^p?write(64)?\(/ { dirty[fd_path($0)] = 1; next }
/^fsync\(/ { p = fd_path($0); dirty[p] = 0; entries[p] = 0; gone[p] = 0; next }
/^rename\(/ {
    from = quoted($0, 1); to = quoted($0, 2); demand_clean(from); renames++
    move(dirty, from, to); move(entries, from, to)
    entries[parent(from)] = entries[parent(to)] = 1; next
}
/^renameat2\(/ {
    from = quoted($0, 1); to = quoted($0, 2); demand_clean(from); demand_clean(to); renames++
    move(dirty, from, "swap"); move(dirty, to, from); move(dirty, "swap", to)
    entries[parent(from)] = entries[parent(to)] = 1; next
}
/^(unlink|unlinkat|rmdir)\(/ {
    # what is moved away must be gone for good before it is taken apart
    p = quoted($0, 1)
    if (p ~ /\.idx$/) gone[parent(p)] = 1
    if (p ~ /\/dead-/ && entries[root]) print "taken apart while its new name is not synced: " p
}
END {
    if (!renames) print "no rename in the log"
    for (p in entries) if (entries[p] && p !~ /\/dead-/ && index(p, watch) == 1) print "ends with entries not synced: " p
    for (p in dirty) if (dirty[p] && index(p, watch) == 1 && p !~ /run\.lock$/) print "ends with bytes not synced: " p
}
