/** `gc`, `adopt` and `rebuild`: long work that the running process does on its store and its tracking database. */
import { resolve } from 'node:path'
import type { Command } from 'commander'
import type { Totals } from '../status/replication-control.ts'
import type { CommandContext, ConfigOption } from './command-context.ts'
import { follow, totalsText } from './long-work.ts'

interface UpkeepOptions extends ConfigOption {
  readonly dryRun?: boolean
}

export function addUpkeepCommands(program: Command, { output, withConfig, asking }: CommandContext): void {
  withConfig(program.command('gc'))
    .description('have the running process remove blobs that no repository has linked for 24 h')
    .option('-n, --dry-run', 'count, and remove nothing')
    .option('--json', 'print the counts as JSON')
    .action(async (options: UpkeepOptions & { readonly json?: boolean }) => {
      const { dryRun = false, json = false } = options
      const counts = await asking(options).ask<Totals>('POST', '/gc', { dryrun: dryRun })
      if (json) return output.out(`${JSON.stringify(counts)}\n`)
      if (dryRun) output.out('Nothing was removed; this is what would be.\n')
      output.out(totalsText(counts))
    })

  withConfig(program.command('adopt'))
    .description(
      'take over the blobs of a registry folder without downloading them, and without writing in it',
    )
    .argument('<folder>', 'its root directory, as the running process sees it')
    .option('-n, --dry-run', 'count, and take over nothing')
    .action(async (folder: string, options: UpkeepOptions) => {
      const { dryRun = false } = options
      const query = { folder: resolve(folder), dryrun: dryRun }
      const totals = await follow(asking(options).stream('POST', '/adopt', query), { output })
      if (dryRun) output.out('Nothing was taken over; this is what would be.\n')
      output.out(totalsText(totals))
    })

  withConfig(program.command('rebuild'))
    .description('forget the tracking database and make it again from the store and the primary; pulls go on')
    .option('-n, --dry-run', 'count, and forget nothing')
    .action(async (options: UpkeepOptions) => {
      const { dryRun = false } = options
      const totals = await follow(asking(options).stream('POST', '/rebuild', { dryrun: dryRun }), { output })
      if (dryRun) output.out('Nothing was forgotten; this is what would be.\n')
      output.out(totalsText(totals))
    })
}
