# SPDX-License-Identifier: MIT
# Packages for Debian and for RPM: ./bootstrap package, or cpack -G DEB|RPM in the build directory. They hold what
# cmake --install does, and need libraries alone.
set(EARSHOT_PACKAGER "" CACHE STRING "Who makes the package: NAME <ADDRESS>")
set(packager "${EARSHOT_PACKAGER}")
if(NOT packager)
  set(packager "local build <root@localhost>")
endif()

set(CPACK_PACKAGE_NAME earshot)
set(CPACK_PACKAGE_VENDOR "${packager}")
set(CPACK_PACKAGE_CONTACT "${packager}")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "${PROJECT_DESCRIPTION}")
set(CPACK_PACKAGE_DESCRIPTION
  "Plays what the Scream audio driver in a virtual machine writes into shared memory\n\
or sends over the network, each machine as a stream of its own, with a latency\n\
that stays where it is.")
set(CPACK_RESOURCE_FILE_LICENSE ${PROJECT_SOURCE_DIR}/LICENSE)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)

set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION sound)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS "pipewire | pulseaudio, rtkit")

set(CPACK_RPM_FILE_NAME RPM-DEFAULT)
set(CPACK_RPM_PACKAGE_LICENSE MIT)
set(CPACK_RPM_PACKAGE_GROUP "Applications/Multimedia")
set(CPACK_RPM_PACKAGE_AUTOREQ ON)
# Other packages' directories.
set(CPACK_RPM_EXCLUDE_FROM_AUTO_FILELIST_ADDITION
  /usr/lib/systemd /usr/lib/systemd/user /usr/lib/udev /usr/lib/udev/rules.d /usr/share/bash-completion
  /usr/share/bash-completion/completions /usr/share/zsh /usr/share/zsh/site-functions /usr/share/fish
  /usr/share/fish/vendor_completions.d /usr/share/man /usr/share/man/man1 /usr/share/man/man5)

include(CPack)
