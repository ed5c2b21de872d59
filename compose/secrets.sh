#!/bin/sh
# Makes the passwords that compose/docker-compose.yml hands to its containers, each in a file of its own.
#
#   sh compose/secrets.sh [FOLDER]        default: compose/secrets, which git and image builds leave alone
#
# The folder is open to its owner alone, so that its files can be readable: containers have users of their own.
# What is there already stays, for servers that have run know it.
set -eu

folder=${1:-$(dirname "$0")/secrets}
umask 077
mkdir -p "$folder"
chmod 700 "$folder"

password() { # what a URL can hold as it is
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}
keep() { # NAME TEXT: the file, unless there is one
    [ -e "$folder/$1" ] && return
    printf '%s\n' "$2" >"$folder/.$1"
    chmod 644 "$folder/.$1"
    mv "$folder/.$1" "$folder/$1"
    echo "made $folder/$1"
}

if [ ! -e "$folder/management-url" ]; then
    rabbitmq=$(password)
    keep rabbitmq.conf "default_user = moorage-admin
default_pass = $rabbitmq"
    keep management-url "http://moorage-admin:$rabbitmq@rabbitmq:15672"
fi
if [ ! -e "$folder/database-url" ]; then
    mysql=$(password)
    keep mysql-password "$mysql"
    keep database-url "mysql+pymysql://moorage:$mysql@mysql:3306/moorage"
fi
keep mysql-root-password "$(password)"
