import sys

from yolact.cli import main

sys.exit(main())
