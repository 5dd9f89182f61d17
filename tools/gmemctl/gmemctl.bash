# SPDX-License-Identifier: GPL-2.0
# bash completion for gmemctl(8)

_gmemctl()
{
	local word=${COMP_WORDS[COMP_CWORD]} command= i words

	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		doctor|load|unload|ls|map) command=${COMP_WORDS[i]} ;;
		esac
	done
	case $command:$word in
	map:-*)	words='--json --offset --size' ;;
	*:-*)	words='--json --help --version' ;;
	:*)	words='doctor load unload ls map' ;;
	*)	words= ;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}

complete -F _gmemctl gmemctl
