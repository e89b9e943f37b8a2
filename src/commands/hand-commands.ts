/** `pause`, `resume`, `brake`, `hidden` and `undelete`: the sysadmin's hand on what replication does by itself. */
import type { Command } from 'commander'
import { parseRepositoryName, parseTag } from '../oci/reference.ts'
import type { BrakeRow, HiddenRow } from '../status/rows.ts'
import { formatCount } from '../status/words.ts'
import { type Asking, inUrl } from './asking.ts'
import type { CommandContext, ConfigOption } from './command-context.ts'
import { CommandFailed, type CommandOutput } from './command-output.ts'
import { follow } from './long-work.ts'

interface DryRunOption extends ConfigOption {
  readonly dryRun?: boolean
}

export function addHandCommands(program: Command, context: CommandContext): void {
  const { output, withConfig, asking, end } = context

  withConfig(program.command('pause'))
    .description('begin no new jobs until resume; events are still taken, and pulls go on')
    .action(async (options: ConfigOption) => {
      await asking(options).ask('POST', '/pause')
      output.out('Replication is paused.\n')
    })

  withConfig(program.command('resume'))
    .description('end the pause')
    .action(async (options: ConfigOption) => {
      await asking(options).ask('POST', '/resume')
      output.out('Replication goes on.\n')
    })

  withConfig(program.command('brake'))
    .description('what waits to be removed because it was too much at once; exit status 1 when anything does')
    .option('--release', 'let it be removed: hidden first, and kept for replication.deletegrace')
    .option('-n, --dry-run', 'with --release: only say what it would be')
    .action(async (options: DryRunOption & { readonly release?: boolean }) => {
      const running = asking(options)
      const brake = await running.ask<BrakeRow>('GET', '/brake')
      output.out(brakeText(brake))
      if (!brake.tripped) return
      if (!options.release || options.dryRun) return end(1)
      await running.ask('POST', '/brake/release')
      output.out('The brake is released.\n')
    })

  withConfig(program.command('hidden'))
    .description('list what was removed here and can still be brought back, newest first')
    .argument('[path]', 'only under this path')
    .action(async (path: string | undefined, options: ConfigOption) => {
      let entries = 0
      await eachHidden(asking(options), path, output, (entry) => {
        entries++
        output.out(hiddenText(entry))
      })
      if (entries === 0) output.out('Nothing is hidden.\n')
    })

  withConfig(program.command('undelete'))
    .description('bring back what was removed here; what the primary lacks is still not served by tag')
    .argument('<repository[:tag]>', 'all that was removed of it, or the removal this tag last fell to')
    .option('-n, --dry-run', 'list, and bring nothing back')
    .action(async (image: string, options: DryRunOption) => {
      end(await undelete(asking(options), image, options.dryRun ?? false, output))
    })
}

async function undelete(running: Asking, image: string, dryRun: boolean, output: CommandOutput) {
  const [path = '', tag, ...rest] = image.split(':')
  const repository = parseRepositoryName(path)
  if (!repository || rest.length > 0 || (tag !== undefined && !parseTag(tag))) {
    throw new CommandFailed(
      'error: undelete: expected a repository, or one with a tag, such as team/app:v1',
      2,
    )
  }
  // Newest first, as they come: restored in this order, the newest keeps its place.
  const entries: HiddenRow[] = []
  await eachHidden(running, repository, output, (entry) => {
    const tagged = tag === undefined || (entries.length === 0 && entry.tags.some((hidden) => hidden === tag))
    if (entry.repository === repository && tagged) entries.push(entry)
  })
  if (entries.length === 0) {
    output.err(
      `nothing of ${image} is hidden: it was never removed here, or longer ago than replication.deletegrace\n`,
    )
    return 1
  }
  output.out(`${formatCount(entries.length, 'removal')} of ${image}:\n${entries.map(hiddenText).join('')}`)
  if (dryRun) {
    output.out('Nothing was brought back.\n')
    return 0
  }
  let restored = 0
  for (const { id } of entries) {
    // One that is gone by now fell to the end of its grace period meanwhile.
    if (await running.find('POST', `/hidden/${inUrl(id)}/restore`)) restored++
  }
  output.out(`${formatCount(restored, 'removal')} brought back.\n`)
  return restored === entries.length ? 0 : 1
}

async function eachHidden(
  running: Asking,
  path: string | undefined,
  output: CommandOutput,
  onItem: (entry: HiddenRow) => void,
): Promise<void> {
  await follow(running.stream('GET', '/hidden', { path }), { output, onItem })
}

function hiddenText({ hiddenAt, repository, tags, links }: HiddenRow): string {
  const tagged = tags.length === 0 ? 'no tag' : tags.join(', ')
  return `${hiddenAt} ${repository}: ${tagged}; ${formatCount(links.length, 'link')}\n`
}

function brakeText({ tripped, trippedAt, repositories, tags, examples }: BrakeRow): string {
  if (!tripped) return 'The brake is not tripped: nothing waits.\n'
  const more = repositories - examples.length
  return `The brake was tripped ${trippedAt}. No longer at the primary, and waiting to be removed here:
${formatCount(repositories, 'repository', 'repositories')}, ${formatCount(tags, 'tag')}
${examples.map((path) => `  ${path}\n`).join('')}${more > 0 ? `  and ${more} more\n` : ''}`
}
