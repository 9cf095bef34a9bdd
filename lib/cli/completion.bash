# The completion of bash. completion.ts replaces the names between "@": the command's name, and lines that
# have a command or an option with a value, "|", and the words that may follow; none means a file's name.
# Completion of @NAME@ in bash. To use it: source <(@NAME@ completion bash)
_node_kvm_table='@TABLE@'

# Sets `words` to the words that may follow $1; fails if the table has no such line.
_node_kvm_find() {
  local line
  while IFS= read -r line; do
    if [ "${line%%|*}" = "$1" ]; then
      words=${line#*|}
      return 0
    fi
  done <<<"$_node_kvm_table"
  return 1
}

_node_kvm() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
  local command=@NAME@ words="" word i
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=${COMP_WORDS[i]}
    # What follows is another program's.
    [ "$word" = -- ] && return
    case "$word" in
      -*) ;;
      *) _node_kvm_find "$command $word" && command="$command $word" ;;
    esac
  done
  case "$previous" in
    -*) _node_kvm_find "$command $previous" || _node_kvm_find "$command" ;;
    *) _node_kvm_find "$command" ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}

complete -o default -F _node_kvm @NAME@
