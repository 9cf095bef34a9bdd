# The completion of fish. completion.ts replaces the names between "@": the command's name, and lines that
# have a command or an option with a value, "|", and the words that may follow; none means a file's name.
# Completion of @NAME@ in fish. To use it: @NAME@ completion fish | source
set -g __node_kvm_table '@TABLE@'

# Prints the words that may follow $argv[1]; fails if the table has no such line.
function __node_kvm_find
    for line in (string split \n -- $__node_kvm_table)
        set -l parts (string split -m 1 '|' -- $line)
        if test "$parts[1]" = "$argv[1]"
            string split -n ' ' -- $parts[2]
            return 0
        end
    end
    return 1
end

# Prints the words that may follow those before the cursor.
function __node_kvm_complete
    set -l before (commandline -opc)
    set -l command @NAME@
    for word in $before[2..]
        if test "$word" = --
            __fish_complete_path (commandline -ct)
            return
        end
        if not string match -q -- '-*' $word; and __node_kvm_find "$command $word" >/dev/null
            set command "$command $word"
        end
    end
    set -l found
    if string match -q -- '-*' $before[-1]; and __node_kvm_find "$command $before[-1]" >/dev/null
        set found (__node_kvm_find "$command $before[-1]")
    else
        set found (__node_kvm_find $command)
    end
    if set -q found[1]
        string join \n -- $found
    else
        __fish_complete_path (commandline -ct)
    end
end

complete -c @NAME@ -f -a '(__node_kvm_complete)'
