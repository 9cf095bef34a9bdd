# The completion of zsh. completion.ts replaces the names between "@": the command's name, and lines that
# have a command or an option with a value, "|", and the words that may follow; none means a file's name.
#compdef @NAME@
# Completion of @NAME@ in zsh. To use it: source <(@NAME@ completion zsh)
_node_kvm_table='@TABLE@'

# Sets `found` to the words that may follow $1; fails if the table has no such line.
_node_kvm_find() {
  local line
  for line in "${(@f)_node_kvm_table}"; do
    if [[ "${line%%|*}" == "$1" ]]; then
      found=(${=line#*|})
      return 0
    fi
  done
  return 1
}

_node_kvm() {
  local previous=${words[CURRENT-1]} command=@NAME@ word
  local -a found
  for word in "${(@)words[2,CURRENT-1]}"; do
    # What follows is another program's.
    [[ "$word" == -- ]] && { _files; return }
    [[ "$word" == -* ]] || { _node_kvm_find "$command $word" && command="$command $word" }
  done
  found=()
  [[ "$previous" == -* ]] && _node_kvm_find "$command $previous" || _node_kvm_find "$command"
  if (( $#found )); then compadd -- $found; else _files; fi
}

compdef _node_kvm @NAME@
