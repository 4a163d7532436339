// SPDX-License-Identifier: GPL-2.0
/*
 * mmscope_slab: asks the kernel's allocators for memory on command and says what it got.
 *
 * In /sys/kernel/debug/mmscope_slab:
 *
 *   command   commands, separated by semicolons; the first that fails ends them, and its error
 *             is the write's. After "quiet;" no other task and no softirq runs on this CPU
 *             between them (RCU frees memory in one), and only alloc and free of caches are
 *             allowed.
 *               create NAME SIZE ALIGN FLAGS   FLAGS: - or hwcache,reclaim,rcu,account,alone,ctor
 *               alloc NAME COUNT
 *               shrink NAME
 *               destroy NAME                   refused while the cache has live objects
 *               kmalloc COUNT SIZE KIND        KIND: normal, account, reclaim, dma
 *               vmalloc COUNT SIZE
 *               vmap COUNT PAGES               COUNT mappings, each of new pages of its own
 *               pages COUNT ORDER
 *               free WHAT DIRECTION EVERY REST WHAT: all, a cache's name or a kind; DIRECTION:
 *                                              forward, backward; requests whose number gives
 *                                              REST when divided by EVERY
 *               dump REQUEST                   the kernel's own words about an object, to its log
 *               reset                          free everything, destroy all caches, count from 0
 *   objects   a line for each request, in order; STATE: live or freed, ORDER that of the pages
 *             that its memory lay in, HEAD_PFN the first of them:
 *               REQUEST STATE KIND NAME SIZE USABLE ADDRESS PFN HEAD_PFN ORDER
 *   frames    a line for each live area: REQUEST PFN PFN …
 *   state     the module's limits, what it knows of the kernel, and a line for each cache
 *
 * Nothing stays behind: removing the module frees what it holds.
 */
#include <linux/bottom_half.h>
#include <linux/debugfs.h>
#include <linux/io.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/version.h>
#include <linux/vmalloc.h>

#define REQUESTS_MAX	 32768u
#define CACHES_MAX	 16u
#define NAME_BYTES	 32u
#define OBJECT_BYTES_MAX (1u << 22)
#define AREA_BYTES_MAX	 (1u << 26)
#define ORDER_MAX	 9u
#define TOTAL_BYTES_MAX	 (1ull << 28)
#define COMMAND_BYTES	 1024u

enum kind { KIND_CACHE, KIND_KMALLOC, KIND_VMALLOC, KIND_VMAP, KIND_PAGES, KINDS };

static const char *const kind_names[KINDS] = {"cache", "kmalloc", "vmalloc", "vmap", "pages"};

struct request {
	void *address;
	u32 size;
	u8 kind;
	/* Of a cache's object: which. */
	u8 which;
	/* Of the pages that it lies in, when it was allocated. */
	u8 order;
	bool freed;
};

struct cache {
	struct kmem_cache *cache;
	/* Kept when it is destroyed, for the list of what was asked of it. */
	char name[NAME_BYTES];
	char flags[NAME_BYTES];
	u32 size;
	u32 align;
	u32 live;
};

static DEFINE_MUTEX(lock);
static struct request *requests;
static u32 requested;
static u64 total_bytes;
static struct cache caches[CACHES_MAX];
static atomic_t constructed = ATOMIC_INIT(0);
static struct dentry *directory;
/* Not on the stack, and not allocated: the allocators are what is looked at. */
static char line[COMMAND_BYTES];

static void construct(void *object)
{
	atomic_inc(&constructed);
}

static struct cache *find_cache(const char *name)
{
	for (u32 i = 0; i < CACHES_MAX; i++)
		if (caches[i].cache && !strcmp(caches[i].name, name))
			return &caches[i];
	return NULL;
}

static int read_flags(char *text, slab_flags_t *flags, bool *constructor)
{
	char *word;

	*flags = 0;
	*constructor = false;
	if (!strcmp(text, "-"))
		return 0;
	while ((word = strsep(&text, ","))) {
		if (!strcmp(word, "hwcache"))
			*flags |= SLAB_HWCACHE_ALIGN;
		else if (!strcmp(word, "reclaim"))
			*flags |= SLAB_RECLAIM_ACCOUNT;
		else if (!strcmp(word, "rcu"))
			*flags |= SLAB_TYPESAFE_BY_RCU;
		else if (!strcmp(word, "account"))
			*flags |= SLAB_ACCOUNT;
#ifdef SLAB_NO_MERGE
		else if (!strcmp(word, "alone"))
			*flags |= SLAB_NO_MERGE;
#endif
		else if (!strcmp(word, "ctor"))
			*constructor = true;
		else
			return -EINVAL;
	}
	return 0;
}

static int create(const char *name, u32 size, u32 align, const char *flags_text)
{
	char words[NAME_BYTES];
	struct cache *cache = NULL;
	slab_flags_t flags;
	bool constructor;
	int error;

	if (!size || size > OBJECT_BYTES_MAX || align > PAGE_SIZE || (align & (align - 1)))
		return -EINVAL;
	if (find_cache(name))
		return -EEXIST;
	strscpy(words, flags_text, sizeof(words));
	error = read_flags(words, &flags, &constructor);
	if (error)
		return error;
	for (u32 i = 0; i < CACHES_MAX && !cache; i++)
		if (!*caches[i].name)
			cache = &caches[i];
	if (!cache)
		return -ENOSPC;
	strscpy(cache->name, name, sizeof(cache->name));
	strscpy(cache->flags, flags_text, sizeof(cache->flags));
	cache->size = size;
	cache->align = align;
	cache->live = 0;
	cache->cache =
		kmem_cache_create(cache->name, size, align, flags, constructor ? construct : NULL);
	if (!cache->cache)
		*cache->name = '\0';
	return cache->cache ? 0 : -ENOMEM;
}

static int destroy(struct cache *cache)
{
	if (cache->live)
		return -EBUSY;
	kmem_cache_destroy(cache->cache);
	cache->cache = NULL;
	return 0;
}

/* Room for so many more requests of so many bytes each. */
static int check_room(u32 count, u64 bytes)
{
	if (!count || count > REQUESTS_MAX - requested)
		return -ENOSPC;
	return count * bytes > TOTAL_BYTES_MAX - total_bytes ? -ENOSPC : 0;
}

static struct page *page_of(const void *address)
{
	return is_vmalloc_addr(address) ? vmalloc_to_page(address) : virt_to_page(address);
}

static void keep(void *address, u32 size, enum kind kind, u8 which)
{
	u8 order = (u8)compound_order(compound_head(page_of(address)));

	requests[requested++] = (struct request){
		.address = address, .size = size, .kind = kind, .which = which, .order = order};
	total_bytes += size;
}

static int alloc_objects(struct cache *cache, u32 count, bool quiet)
{
	int error = check_room(count, cache->size);

	if (error)
		return error;
	while (count--) {
		void *object = kmem_cache_alloc(cache->cache,
						quiet ? GFP_NOWAIT | __GFP_NOWARN : GFP_KERNEL);

		if (!object)
			return -ENOMEM;
		keep(object, cache->size, KIND_CACHE, (u8)(cache - caches));
		cache->live++;
	}
	return 0;
}

static int alloc_kmalloc(u32 count, u32 size, const char *kind)
{
	int error = check_room(count, size);
	gfp_t gfp = GFP_KERNEL | __GFP_NOWARN;

	if (error)
		return error;
	if (!size || size > OBJECT_BYTES_MAX)
		return -EINVAL;
	if (!strcmp(kind, "account"))
		gfp |= __GFP_ACCOUNT;
	else if (!strcmp(kind, "reclaim"))
		gfp |= __GFP_RECLAIMABLE;
	else if (!strcmp(kind, "dma"))
		gfp |= GFP_DMA;
	else if (strcmp(kind, "normal"))
		return -EINVAL;
	while (count--) {
		void *object = kmalloc(size, gfp);

		if (!object)
			return -ENOMEM;
		keep(object, size, KIND_KMALLOC, 0);
	}
	return 0;
}

static int alloc_vmalloc(u32 count, u32 size)
{
	int error = check_room(count, size);

	if (error)
		return error;
	if (!size || size > AREA_BYTES_MAX)
		return -EINVAL;
	while (count--) {
		void *area = vmalloc(size);

		if (!area)
			return -ENOMEM;
		keep(area, size, KIND_VMALLOC, 0);
		cond_resched();
	}
	return 0;
}

static void *map_new_pages(u32 count)
{
	struct page **pages = kcalloc(count, sizeof(*pages), GFP_KERNEL);
	void *area = NULL;
	u32 got = 0;

	if (!pages)
		return NULL;
	while (got < count && (pages[got] = alloc_page(GFP_KERNEL)))
		got++;
	if (got == count)
		area = vmap(pages, count, VM_MAP, PAGE_KERNEL);
	if (!area)
		while (got)
			__free_page(pages[--got]);
	kfree(pages);
	return area;
}

static int alloc_vmap(u32 count, u32 pages)
{
	int error = check_room(count, (u64)pages << PAGE_SHIFT);

	if (error)
		return error;
	if (!pages || pages > PAGE_SIZE / sizeof(void *))
		return -EINVAL;
	while (count--) {
		void *area = map_new_pages(pages);

		if (!area)
			return -ENOMEM;
		keep(area, pages << PAGE_SHIFT, KIND_VMAP, 0);
	}
	return 0;
}

static int alloc_blocks(u32 count, u32 order)
{
	int error = order > ORDER_MAX ? -EINVAL : check_room(count, PAGE_SIZE << order);

	if (error)
		return error;
	while (count--) {
		struct page *page = alloc_pages(GFP_KERNEL | __GFP_NOWARN, order);

		if (!page)
			return -ENOMEM;
		keep(page_address(page), PAGE_SIZE << order, KIND_PAGES, 0);
		/* Such pages know nothing of each other. */
		requests[requested - 1].order = (u8)order;
	}
	return 0;
}

static void unmap(struct request *request)
{
	u32 count = request->size >> PAGE_SHIFT;
	struct page **pages = kcalloc(count, sizeof(*pages), GFP_KERNEL | __GFP_NOFAIL);

	for (u32 i = 0; i < count; i++)
		pages[i] = vmalloc_to_page(request->address + ((unsigned long)i << PAGE_SHIFT));
	vunmap(request->address);
	for (u32 i = 0; i < count; i++)
		__free_page(pages[i]);
	kfree(pages);
}

static void release(struct request *request)
{
	switch (request->kind) {
	case KIND_CACHE:
		kmem_cache_free(caches[request->which].cache, request->address);
		caches[request->which].live--;
		break;
	case KIND_KMALLOC:
		kfree(request->address);
		break;
	case KIND_VMALLOC:
		vfree(request->address);
		break;
	case KIND_VMAP:
		unmap(request);
		break;
	case KIND_PAGES:
		free_pages((unsigned long)request->address, request->order);
		break;
	default:
		return;
	}
	total_bytes -= request->size;
	request->freed = true;
}

static bool is_meant(const struct request *request, const char *what)
{
	if (request->freed)
		return false;
	if (!strcmp(what, "all") || !strcmp(what, kind_names[request->kind]))
		return true;
	return request->kind == KIND_CACHE && !strcmp(what, caches[request->which].name);
}

static int free_requests(const char *what, const char *direction, u32 every, u32 rest)
{
	bool backward = !strcmp(direction, "backward");

	if ((!backward && strcmp(direction, "forward")) || !every || rest >= every)
		return -EINVAL;
	for (u32 i = 0; i < requested; i++) {
		u32 number = backward ? requested - 1 - i : i;

		if (number % every == rest && is_meant(&requests[number], what))
			release(&requests[number]);
	}
	return 0;
}

static void reset(void)
{
	free_requests("all", "forward", 1, 0);
	for (u32 i = 0; i < CACHES_MAX; i++) {
		if (caches[i].cache)
			destroy(&caches[i]);
		*caches[i].name = '\0';
	}
	requested = 0;
	atomic_set(&constructed, 0);
}

static int dump(u32 number)
{
	if (number >= requested || requests[number].freed)
		return -ENOENT;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 13, 0) && defined(CONFIG_PRINTK)
	pr_info("mmscope_slab: request %u at %px:", number, requests[number].address);
	mem_dump_obj(requests[number].address);
	return 0;
#else
	return -EOPNOTSUPP;
#endif
}

static int run_command(char *command, bool quiet)
{
	char name[NAME_BYTES];
	char word[NAME_BYTES];
	u32 first;
	u32 second;
	struct cache *cache;

	if (sscanf(command, "alloc %31s %u", name, &first) == 2) {
		cache = find_cache(name);
		return cache ? alloc_objects(cache, first, quiet) : -ENOENT;
	}
	if (sscanf(command, "free %31s %31s %u %u", name, word, &first, &second) == 4) {
		if (quiet && !find_cache(name))
			return -ENOENT;
		return free_requests(name, word, first, second);
	}
	if (quiet)
		return -EINVAL;
	if (!strcmp(command, "reset")) {
		reset();
		return 0;
	}
	if (sscanf(command, "create %31s %u %u %31s", name, &first, &second, word) == 4)
		return create(name, first, second, word);
	if (sscanf(command, "shrink %31s", name) == 1) {
		cache = find_cache(name);
		return cache ? kmem_cache_shrink(cache->cache) : -ENOENT;
	}
	if (sscanf(command, "destroy %31s", name) == 1) {
		cache = find_cache(name);
		return cache ? destroy(cache) : -ENOENT;
	}
	if (sscanf(command, "kmalloc %u %u %31s", &first, &second, word) == 3)
		return alloc_kmalloc(first, second, word);
	if (sscanf(command, "vmalloc %u %u", &first, &second) == 2)
		return alloc_vmalloc(first, second);
	if (sscanf(command, "vmap %u %u", &first, &second) == 2)
		return alloc_vmap(first, second);
	if (sscanf(command, "pages %u %u", &first, &second) == 2)
		return alloc_blocks(first, second);
	if (sscanf(command, "dump %u", &first) == 1)
		return dump(first);
	return -EINVAL;
}

static int run_commands(char *rest)
{
	bool quiet = false;
	char *command;
	int error = 0;

	while (!error && (command = strsep(&rest, ";"))) {
		command = strim(command);
		if (!strcmp(command, "quiet") && !quiet) {
			quiet = true;
			local_bh_disable();
		} else {
			error = run_command(command, quiet);
		}
	}
	if (quiet)
		local_bh_enable();
	return error;
}

static ssize_t command_write(struct file *file, const char __user *text, size_t size,
			     loff_t *position)
{
	int error = -EFAULT;

	if (size >= sizeof(line))
		return -E2BIG;
	mutex_lock(&lock);
	if (!copy_from_user(line, text, size)) {
		line[size] = '\0';
		error = run_commands(line);
	}
	mutex_unlock(&lock);
	return error ? error : (ssize_t)size;
}

static const struct file_operations command_operations = {
	.owner = THIS_MODULE,
	.write = command_write,
};

static void *list_start(struct seq_file *file, loff_t *position)
{
	mutex_lock(&lock);
	return *position < requested ? &requests[*position] : NULL;
}

static void *list_next(struct seq_file *file, void *request, loff_t *position)
{
	++*position;
	return *position < requested ? &requests[*position] : NULL;
}

static void list_stop(struct seq_file *file, void *request)
{
	mutex_unlock(&lock);
}

static int show_object(struct seq_file *file, void *item)
{
	const struct request *request = item;
	const char *name = request->kind == KIND_CACHE ? caches[request->which].name : "-";
	size_t usable = request->size;
	unsigned long pfn = 0;

	if (!request->freed && request->kind == KIND_KMALLOC)
		usable = ksize(request->address);
	if (!is_vmalloc_addr(request->address))
		pfn = virt_to_phys(request->address) >> PAGE_SHIFT;
	else if (!request->freed)
		pfn = page_to_pfn(vmalloc_to_page(request->address));
	seq_printf(file, "%u %s %s %s %u %zu %px %lu %lu %u\n", (u32)(request - requests),
		   request->freed ? "freed" : "live", kind_names[request->kind], name,
		   request->size, usable, request->address, pfn,
		   pfn & ~((1ul << request->order) - 1), request->order);
	return 0;
}

static int show_frames(struct seq_file *file, void *item)
{
	const struct request *request = item;

	if (request->freed || (request->kind != KIND_VMALLOC && request->kind != KIND_VMAP))
		return 0;
	seq_printf(file, "%u", (u32)(request - requests));
	for (unsigned long offset = 0; offset < request->size; offset += PAGE_SIZE)
		seq_printf(file, " %lu", page_to_pfn(vmalloc_to_page(request->address + offset)));
	seq_putc(file, '\n');
	return 0;
}

static const struct seq_operations objects_sops = {
	.start = list_start,
	.next = list_next,
	.stop = list_stop,
	.show = show_object,
};
DEFINE_SEQ_ATTRIBUTE(objects);

static const struct seq_operations frames_sops = {
	.start = list_start,
	.next = list_next,
	.stop = list_stop,
	.show = show_frames,
};
DEFINE_SEQ_ATTRIBUTE(frames);

static int state_show(struct seq_file *file, void *unused)
{
	mutex_lock(&lock);
	seq_printf(file, "page_size %lu\n", PAGE_SIZE);
	seq_printf(file, "cache_line_size %u\n", (u32)cache_line_size());
	seq_printf(file, "kmalloc_minalign %lu\n", (unsigned long)ARCH_KMALLOC_MINALIGN);
	seq_printf(file, "kmalloc_max_cache_size %lu\n", (unsigned long)KMALLOC_MAX_CACHE_SIZE);
	seq_printf(file, "vmalloc_start %lx\n", (unsigned long)VMALLOC_START);
	seq_printf(file, "vmalloc_end %lx\n", (unsigned long)VMALLOC_END);
	seq_printf(file, "requests %u of %u\n", requested, REQUESTS_MAX);
	seq_printf(file, "constructed %d\n", atomic_read(&constructed));
	for (u32 i = 0; i < CACHES_MAX; i++)
		if (caches[i].cache)
			seq_printf(file, "cache %s %u %u %s object_size %u live %u\n",
				   caches[i].name, caches[i].size, caches[i].align, caches[i].flags,
				   kmem_cache_size(caches[i].cache), caches[i].live);
	mutex_unlock(&lock);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(state);

static int __init mmscope_slab_init(void)
{
	requests = vzalloc(array_size(REQUESTS_MAX, sizeof(*requests)));
	if (!requests)
		return -ENOMEM;
	directory = debugfs_create_dir("mmscope_slab", NULL);
	if (IS_ERR(directory)) {
		vfree(requests);
		return PTR_ERR(directory);
	}
	debugfs_create_file("command", 0200, directory, NULL, &command_operations);
	debugfs_create_file("objects", 0400, directory, NULL, &objects_fops);
	debugfs_create_file("frames", 0400, directory, NULL, &frames_fops);
	debugfs_create_file("state", 0400, directory, NULL, &state_fops);
	return 0;
}

static void __exit mmscope_slab_exit(void)
{
	debugfs_remove_recursive(directory);
	mutex_lock(&lock);
	reset();
	mutex_unlock(&lock);
	vfree(requests);
}

module_init(mmscope_slab_init);
module_exit(mmscope_slab_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Asks the kernel's allocators for memory on command and says what it got");
