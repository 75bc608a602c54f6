/* SPDX-License-Identifier: MIT
 *
 * Shared memory and the VM behind it, broken one way at a time.
 */
#include "receiver/doctor_check.h"
#include "ringbuf/scream_shm.h"
#include "tests/unit/doctor_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define TWO_MIB ((size_t)2 << 20)

static void test_healthy(void **state)
{
    struct rig *rig = *state;
    rig_expect_healthy(rig);
    rig_run(rig, true);
    assert_non_null(strstr(rig->text, "ok    win10 runs and has 2 MiB of shared memory in "));
    assert_non_null(strstr(rig->text, "ok    The guest plays into it: 48 kHz 16 bit stereo\n"));
    assert_non_null(strstr(rig->text, "ok    It plays win10: 43.1 ms late, 0 drop-outs\n"));
    assert_non_null(strstr(rig->text, "ok    The service starts at login and ends at logout"));
    assert_non_null(strstr(rig->text, "ok    Earshot (pid 4343) has real-time priority\n"));
    assert_null(strstr(rig->text, "FAIL"));
}

/* Whoever plays: there is sound, so nothing is wrong with the VM. */
static void test_healthy_without_vm(void **state)
{
    struct rig *rig = *state;
    rig_remove(rig, "/proc/4242");
    rig_expect_healthy(rig);
}

static void test_no_vm(void **state)
{
    struct rig *rig = *state;
    rig_remove(rig, "/proc/4242");
    rig_remove(rig, "/shm/scream");
    rig_expect(rig, "No VM is running", "virsh -c qemu:///system start NAME");
    assert_non_null(strstr(rig->text, "\n1 broken"));

    /* What an ended VM left behind is not a fault of its own. */
    rig_ring(rig, SCREAM_SHM_MAGIC, TWO_MIB);
    rig->ring_stands = true;
    rig_expect(rig, "No VM is running", NULL);
    assert_non_null(strstr(rig->text, "\n1 broken"));
    rig_ring(rig, 0, 0);
    rig_expect(rig, "No VM is running", NULL);
    assert_non_null(strstr(rig->text, "\n1 broken"));
    rig_ring(rig, 0, TWO_MIB);
    rig_expect(rig, "No VM is running", NULL);
    assert_non_null(strstr(rig->text, "\n1 broken"));

    rig_remove(rig, "/proc/1"); /* hidepid */
    rig_remove(rig, "/shm/scream");
    rig_run(rig, false);
    assert_null(strstr(rig->text, "No VM is running"));
    assert_non_null(strstr(rig->text, "With sudo it also sees: which VMs run"));
}

static void test_vm_without_memory(void **state)
{
    struct rig *rig = *state;
    rig_remove(rig, "/shm/scream");
    rig_qemu(rig, 4242, "/usr/libexec/qemu-kvm\n-name\nwin11\n-device\nvirtio-net-pci,netdev=n");
    rig->options.shm_path = "/dev/shm/no-such-earshot-ring";
    rig_expect(rig, "win11 runs, but without shared memory",
               "<shmem name='no-such-earshot-ring'><model type='ivshmem-plain'/><size unit='M'>2</size></shmem>");
}

static void test_other_path(void **state)
{
    struct rig *rig = *state;
    rig_remove(rig, "/shm/scream");
    rig_qemu(
        rig, 4242,
        "qemu-system-x86_64\n-name\nwin10\n-object\nmemory-backend-file,id=lg,share=on,mem-path=/dev/shm/looking,"
        "size=32M\n-object\nmemory-backend-file,id=s,share,mem-path=/dev/shm/it's here,size=2097152\n-device\n"
        "ivshmem-plain,memdev=lg\n-device\nivshmem-plain,memdev=s");
    rig_expect(rig, "No running VM has the shared memory ", "earshot -m '/dev/shm/it'\\''s here'    # win10, 2 MiB");
    assert_non_null(strstr(rig->text, "earshot -m /dev/shm/looking    # win10, 32 MiB"));
}

static void test_not_shared(void **state)
{
    struct rig *rig = *state;
    char arguments[400];
    snprintf(arguments, sizeof arguments,
             "qemu-system-x86_64\n-name\nwin10\n-object\nmemory-backend-file,id=s,mem-path=%s,size=2M\n-device\n"
             "ivshmem-plain,memdev=s",
             rig->ring);
    rig_qemu(rig, 4242, arguments);
    rig_ring(rig, 0, TWO_MIB);
    rig_expect(rig, "win10 keeps its memory ", "share=on,mem-path=");
}

static void test_two_of_a_size(void **state)
{
    struct rig *rig = *state;
    char arguments[400];
    snprintf(
        arguments, sizeof arguments,
        "qemu-system-x86_64\n-name\nwin10\n-object\nmemory-backend-file,id=a,share=on,mem-path=/dev/shm/a,size=2M\n"
        "-object\nmemory-backend-file,id=s,share=on,mem-path=%s,size=2M\n-device\nivshmem-plain,memdev=a\n-device\n"
        "ivshmem-plain,memdev=s",
        rig->ring);
    rig_qemu(rig, 4242, arguments);
    rig_expect_healthy(rig); /* it plays: the driver found the right one */
    rig_ring(rig, 0, TWO_MIB);
    rig_expect(rig, "win10 has 2 ivshmem devices of 2 MiB", "/v UseIVSHMEM /t REG_DWORD /d 4 /f");
    assert_non_null(strstr(rig->text, "\n1 broken"));
}

/* The same file by another name. */
static void test_other_name(void **state)
{
    struct rig *rig = *state;
    char link[128];
    snprintf(link, sizeof link, "%s/link", rig->root);
    assert_int_equal(symlink(rig->ring, link), 0);
    rig->options.shm_path = link;
    rig_expect_healthy(rig);
}

static void test_missing(void **state)
{
    struct rig *rig = *state;
    rig_remove(rig, "/shm/scream");
    rig_expect(rig, rig->ring, "Shut the VM down, and start it again.");
    assert_non_null(strstr(rig->text, " was deleted while win10 runs"));
}

/* The doctor, and what it sees of the ring, as somebody who may not read everything. */
static void run_as_anna(struct rig *rig, struct doctor_ring *ring)
{
    assert_int_equal(chmod(rig->root, 0755), 0);
    if (geteuid() == 0)
        assert_int_equal(seteuid(65534), 0);
    doctor_look_at_ring(&rig->env, rig->options.shm_path, ring);
    rig_run(rig, false);
    if (geteuid() != getuid())
        assert_int_equal(seteuid(getuid()), 0);
    assert_int_equal(rig->status, 1);
}

static void test_permission(void **state)
{
    struct rig *rig = *state;
    struct doctor_ring ring;
    char wanted[400];
    assert_int_equal(chmod(rig->ring, geteuid() == 0 ? 0600 : 0), 0);
    rig_write(rig, "/etc/passwd", "qemu:x:107:107:qemu user:/:/sbin/nologin\n");
    rig_write(rig, "/etc/group", "qemu:x:107:qemu\n");
    run_as_anna(rig, &ring);
    assert_int_equal(ring.state, RING_FAILED);
    assert_int_equal(ring.error, -EACCES);
    /* The file of this memory, and of no other, as setup has it. */
    snprintf(
        wanted, sizeof wanted,
        "for good:      echo 'f %s 0660 anna qemu -' | sudo tee /etc/tmpfiles.d/earshot-scream.conf\n"
        "      and then:      sudo systemd-tmpfiles --create /etc/tmpfiles.d/earshot-scream.conf    # while the VM",
        rig->ring);
    if (strncmp(rig->text, "FAIL  anna may not read ", 24) != 0 || !strstr(rig->text, ": it belongs to ") ||
        !strstr(rig->text, "sudo setfacl -m u:anna:r ") || !strstr(rig->text, wanted))
        fail_msg("%s", rig->text);
}

/* The file is not what has to be opened, wherever on the way the closed directory is. */
static void test_closed_directory(void **state)
{
    struct rig *rig = *state;
    struct doctor_ring ring;
    char closed[128], path[160], link[128], wanted[200];
    rig_write(rig, "/vms/closed/deep/ring", "");
    snprintf(closed, sizeof closed, "%s/vms/closed", rig->root);
    snprintf(path, sizeof path, "%s/deep/ring", closed);
    snprintf(link, sizeof link, "%s/link", rig->root);
    assert_int_equal(symlink("vms/closed/deep", link), 0);
    assert_int_equal(chmod(closed, geteuid() == 0 ? 0700 : 0), 0);
    snprintf(wanted, sizeof wanted, " sudo setfacl -m u:anna:x %s\n", closed);
    for (unsigned through_link = 0; through_link < 2; through_link++) {
        if (through_link)
            snprintf(path, sizeof path, "%s/ring", link);
        rig->options.shm_path = path;
        run_as_anna(rig, &ring);
        assert_int_equal(ring.error, -EACCES);
        if (!strstr(rig->text, "FAIL  anna may not enter ") || !strstr(rig->text, wanted) ||
            strstr(rig->text, "u:anna:r ") || strstr(rig->text, "tmpfiles"))
            fail_msg("wanted%s%s", wanted, rig->text);
    }
    assert_int_equal(chmod(closed, 0700), 0);
}

static void test_directory(void **state)
{
    struct rig *rig = *state;
    char directory[128];
    snprintf(directory, sizeof directory, "%s/shm", rig->root);
    rig->options.shm_path = directory;
    rig_remove(rig, "/proc/4242");
    rig_remove(rig, "/proc/1");
    rig_expect(rig, directory, "earshot -m takes the file that QEMU's mem-path names");
    assert_non_null(strstr(rig->text, " is a directory, not shared memory"));
}

static void test_sizes(void **state)
{
    struct rig *rig = *state;
    rig_ring(rig, 0, 0);
    rig_expect(rig, rig->ring, "leave out what truncates the file");
    assert_non_null(strstr(rig->text, " was emptied while win10 runs"));
    rig_ring(rig, 0, TWO_MIB / 2);
    rig_expect(rig, rig->ring, "sudo rm ");
    assert_non_null(strstr(rig->text, " has 1 MiB, but win10 was given 2 MiB"));
    rig_ring(rig, 0, 2 * TWO_MIB); /* is no fault, and the guest sees 2 MiB of it */
    rig_expect(rig, rig->ring, "/v UseIVSHMEM /t REG_DWORD /d 2 /f");
    assert_non_null(strstr(rig->text, " is all zero: "));

    char arguments[400];
    snprintf(arguments, sizeof arguments,
             "qemu-system-x86_64\n-name\nwin10\n-object\nmemory-backend-file,id=s,share=on,mem-path=%s,size=512K\n-"
             "device\n"
             "ivshmem-plain,memdev=s",
             rig->ring);
    rig_qemu(rig, 4242, arguments);
    rig_ring(rig, 0, 512 << 10);
    rig_expect(rig, rig->ring, "UseIVSHMEM /t REG_DWORD /d 2 /f");
    assert_non_null(strstr(rig->text, "counts whole MiB"));
}

static void test_all_zero(void **state)
{
    struct rig *rig = *state;
    rig_ring(rig, 0, TWO_MIB);
    rig_expect(rig, rig->ring, "/v UseIVSHMEM /t REG_DWORD /d 2 /f");
    assert_non_null(strstr(rig->text, " is all zero: "));
    assert_non_null(strstr(rig->text, "0.1-161"));
}

/* The driver zeroes the header between two streams; old sound stays. */
static void test_closed(void **state)
{
    struct rig *rig = *state;
    uint8_t *memory = calloc(1, TWO_MIB);
    assert_non_null(memory);
    memory[TWO_MIB - 5] = 1;
    rig_write_bytes(rig, "/shm/scream", memory, TWO_MIB);
    free(memory);
    rig_expect_warning(rig, "The guest has played into ", "Play something in the guest");
}

static void test_foreign(void **state)
{
    struct rig *rig = *state;
    rig_ring(rig, 0x4b4d5b4b, TWO_MIB);
    rig_expect(rig, rig->ring, "dumpxml NAME");
    assert_non_null(strstr(rig->text, " holds something else than Scream's sound"));
}

static void test_bad_header(void **state)
{
    struct rig *rig = *state;
    uint8_t bytes[SCREAM_SHM_HEADER_BYTES];
    struct scream_shm_header header = {SCREAM_SHM_MAGIC, 1, 24, 546, 0, 1, 16, 2, 3};
    uint8_t *memory = calloc(1, TWO_MIB);
    assert_non_null(memory);
    scream_shm_encode(bytes, &header);
    memcpy(memory, bytes, sizeof bytes);
    rig_write_bytes(rig, "/shm/scream", memory, TWO_MIB);
    free(memory);
    rig->ring_stands = true;
    rig_expect(rig, "The ring in ", "UseIVSHMEM /t REG_DWORD /d 2 /f");
    assert_non_null(strstr(rig->text, " makes no sense: chunk_size is 0"));
}

static void test_still(void **state)
{
    struct rig *rig = *state;
    rig->ring_stands = true;
    rig_expect_warning(rig, rig->ring, "Play something in the guest");
    assert_non_null(strstr(rig->text, "nothing comes"));
}

/* The file of that name is a new one: QEMU writes to what it opened. */
static void test_replaced(void **state)
{
    struct rig *rig = *state;
    char maps[400];
    struct stat st;
    assert_int_equal(stat(rig->ring, &st), 0);
    rig_ring(rig, 0, TWO_MIB);
    snprintf(maps, sizeof maps, "7f0000000000-7f0000200000 rw-s 00000000 00:19 %llu    %s (deleted)\n",
             (unsigned long long)st.st_ino + 1000, rig->ring);
    rig_write(rig, "/proc/4242/maps", maps);
    rig_expect(rig, rig->ring, "Shut the VM down and start it again.");
    assert_non_null(strstr(rig->text, "somebody replaced it"));
}

static void test_arguments(void **state)
{
    (void)state;
    static struct doctor_vm vm;
    static const char commas[] =
        "kvm\0-name\0a,,b,process=x\0-object\0memory-backend-file,id=m,mem-path=/x,,y,share=on,"
        "size=1G\0--device\0ivshmem-plain,id=q,memdev=m";
    assert_true(doctor_vm_parse(&vm, commas, sizeof commas));
    assert_string_equal(vm.name, "a,b");
    assert_int_equal(vm.device_count, 1);
    assert_string_equal(vm.devices[0].path, "/x,y");
    assert_int_equal(vm.devices[0].bytes, 1 << 30);
    assert_true(vm.devices[0].shared);

    static const char old[] = "/usr/bin/qemu-system-x86_64\0-device\0ivshmem,size=2,shm=scream";
    assert_true(doctor_vm_parse(&vm, old, sizeof old));
    assert_string_equal(vm.devices[0].path, "/dev/shm/scream");
    assert_int_equal(vm.devices[0].bytes, TWO_MIB);

    static const char other[] = "vim\0qemu-system-x86_64";
    assert_false(doctor_vm_parse(&vm, other, sizeof other));
    static const char cut[] = "qemu-system-x86_64\0-object\0{\"id\":\0-device";
    assert_true(doctor_vm_parse(&vm, cut, sizeof cut));
    static const char unended[] = {'k', 'v', 'm'};
    assert_false(doctor_vm_parse(&vm, unended, sizeof unended));
    assert_false(doctor_vm_parse(&vm, "", 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_healthy, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_healthy_without_vm, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_no_vm, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_vm_without_memory, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_other_path, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_not_shared, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_two_of_a_size, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_other_name, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_missing, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_permission, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_closed_directory, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_directory, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_sizes, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_all_zero, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_closed, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_foreign, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_bad_header, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_still, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_replaced, rig_setup, rig_teardown),
        cmocka_unit_test(test_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
